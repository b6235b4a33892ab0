//! Nothing is lost and nothing counted twice: in threads that a signal interrupts anywhere, in children
//! and after exec, while an interval prints and clears.

use std::fs;
use std::io::Write as _;

use libtest_mimic::Completion;

use super::Verdict;
use super::printed::{Printed, counted, run, sum};
use super::support::{self, c};

/// What a process says it made, summed over all of them.
struct Made {
    processes: usize,
    steps: u64,
    sum: u64,
    marks: u64,
}

fn made(printed: &Printed) -> Made {
    let lines = printed.out.lines().map(|line| {
        let words = line.strip_prefix("made ").expect("made");
        let numbers = words.split(' ').skip(1);
        numbers.map(|n| n.parse().unwrap()).collect::<Vec<u64>>()
    });
    let lines: Vec<_> = lines.collect();
    Made {
        processes: lines.len(),
        steps: lines.iter().map(|line| line[0]).sum(),
        sum: lines.iter().map(|line| line[1]).sum(),
        marks: lines.iter().map(|line| line[2]).sum(),
    }
}

fn totals(program: &str, words: [&str; 2]) -> Printed {
    let target = c("totals").flags(&["-pthread"]).build();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let program = program.replace("TARGET", &target.to_string_lossy());
    file.write_all(program.as_bytes()).unwrap();
    let target = target.as_os_str();
    run(
        file.path(),
        &[target, words[0].as_ref(), words[1].as_ref()],
        0,
    )
}

pub fn maps() -> Verdict {
    let program = r#"
        uprobe:TARGET:step {
            @printed_and_cleared = count();
            @printed_and_zeroed[arg0] = sum(arg1);
            @by[arg0] = count();
            @sum = sum(arg1);
            @hist = hist(arg1);
            @linear[arg0] = lhist(arg1, 0, 100000, 10000);
            @stats[pid, tid] = stats(arg1);
            @greatest = max(arg1);
            @least = min(arg1);
        }
        uprobe:TARGET:mark { printf("mark %d\n", arg0); }
        interval:ms:5 {
            print(@printed_and_cleared); clear(@printed_and_cleared);
            print(@printed_and_zeroed); zero(@printed_and_zeroed);
        }
        END {
            print(@printed_and_cleared); clear(@printed_and_cleared);
            print(@printed_and_zeroed); clear(@printed_and_zeroed);
        }
    "#;
    // The first works and forks; a child works, execs with one generation less, and so on.
    let printed = totals(program, ["50000", "3"]);
    let made = made(&printed);
    assert!(made.processes >= 5, "{}", printed.out);
    assert!(made.steps > made.marks * 10, "the handler ran");
    assert_eq!(printed.summary()["notes"], serde_json::json!([]));
    let intervals = printed.all("@printed_and_cleared").count();
    assert!(
        intervals > 2,
        "it was cleared while probes fired: {intervals}"
    );
    let all = |map| printed.all(map).map(sum).sum::<u64>();
    assert_eq!(all("@printed_and_cleared"), made.steps);
    assert_eq!(all("@printed_and_zeroed"), made.sum);
    assert_eq!(sum(printed.map("@by")), made.steps);
    let by = printed.map("@by").as_object().unwrap();
    for thread in 0..8 {
        let steps = by[&thread.to_string()].as_u64();
        assert_eq!(steps, Some(made.marks * 10 / 8), "thread {thread}");
    }
    assert_eq!(sum(printed.map("@sum")), made.sum);
    assert_eq!(counted(printed.map("@hist")), made.steps);
    let linear = printed.map("@linear").as_object().unwrap();
    assert_eq!(linear.values().map(counted).sum::<u64>(), made.steps);
    let stats = printed.map("@stats").as_object().unwrap();
    let stats = |what: &str| stats.values().map(|s| sum(&s[what])).sum::<u64>();
    assert_eq!((stats("count"), stats("total")), (made.steps, made.sum));
    assert_eq!(*printed.map("@greatest"), 50_000);
    assert_eq!(*printed.map("@least"), 1);
    let marks = printed.text().lines().count() as u64;
    assert_eq!(marks + lost(&printed), made.marks);
    Ok(Completion::Completed)
}

pub fn records() -> Verdict {
    let program = r#"uprobe:TARGET:step { printf("%d %d\n", arg0, arg1); }"#;
    let printed = totals(program, ["100000", "1"]);
    let made = made(&printed);
    let text = printed.text();
    assert_eq!(text.lines().count() as u64 + lost(&printed), made.steps);
    // Those of one thread are in order, each once.
    let mut last = [0_u64; 8];
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        if let Some(last) = last.get_mut(key.parse::<usize>().unwrap()) {
            let value = value.parse().unwrap();
            assert!(*last < value, "{line} after {last}");
            *last = value;
        }
    }
    // Threads beyond the blocks that the memory allows share a ring: one may find it full of the others'
    // records for as long as it runs, which takes a millisecond.
    assert!(
        last.iter().filter(|&&last| last > 0).count() > 4,
        "{last:?}"
    );
    Ok(Completion::Completed)
}

/// Rings of some hundred records, more made than can be taken out, as text and as JSON.
pub fn storm() -> Verdict {
    let target = c("totals").flags(&["-pthread"]).build();
    let program = format!(
        "uprobe:{}:step {{ printf(\"%d %d\\n\", arg0, arg1); }}",
        target.display()
    );
    for format in ["text", "json"] {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("printed");
        let mut command = support::command(support::launch::binary());
        command.args(["run", "-q", "--mem", "1M", "--format", format, "-e"]);
        command.arg(&program).arg("-o").arg(&file).arg("--");
        command.arg(&target).args(["300000", "1"]);
        let out = support::start(command).end().expect(0).out;
        let said = fs::read_to_string(&file).unwrap();
        let printed = Printed {
            objects: match format {
                "json" => support::objects(&said),
                _ => Vec::new(),
            },
            out,
        };
        let made = made(&printed).steps;
        let (seen, lost) = match format {
            "json" => (printed.text().lines().count() as u64, lost(&printed)),
            _ => {
                let told = said.lines().filter_map(|line| line.strip_prefix("lost "));
                let told = told.map(|told| told.split(' ').next().unwrap().parse::<u64>().unwrap());
                let seen = said
                    .lines()
                    .filter(|l| l.starts_with(|c: char| c.is_ascii_digit()));
                (seen.count() as u64, told.sum())
            }
        };
        assert_eq!(seen + lost, made, "{format}: {lost} lost");
        assert!(lost > 0 && seen > 0, "{format}: {seen} seen, {lost} lost");
    }
    Ok(Completion::Completed)
}

/// How many records found no room.
fn lost(printed: &Printed) -> u64 {
    let probes = printed.summary()["probes"].as_array().unwrap();
    let lost = probes.iter().map(|probe| sum(&probe["missed"]));
    let lost: u64 = lost.sum();
    let told = printed.all("events").map(sum).sum::<u64>();
    assert_eq!(lost, told, "the summary and what was told on the way");
    lost
}

/// Runs a program text with a target.
fn text<S: AsRef<std::ffi::OsStr>>(program: &str, target: &[S]) -> Printed {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(program.as_bytes()).unwrap();
    run(file.path(), target, 0)
}

/// Keys that come and go: many more than there is room for, few at a time.
const COMING_AND_GOING: &str = r#"
    config = { max_map_keys = 64 }
    uprobe:PLACE {
        $n = @n++;
        @start[$n] = nsecs;
        @twice[$n, "key"] = count();
        @twice[$n, "key"] = count();
        @name[$n] = comm;
        if (has_key(@start, $n) && (int64)@twice[$n, "key"] == 2 && @name[$n] == comm) {
            @good = count();
        }
        @took = hist(nsecs - @start[$n]);
        delete(@start[$n]);
        delete(@twice[$n, "key"]);
        delete(@name[$n]);
        @late[$n] = $n;
        delete(@late[$n - 20]);
    }
"#;

fn came_and_went(printed: &Printed) -> u64 {
    let made = sum(printed.map("@n"));
    assert!(made > 100 * 64, "many more than there is room for: {made}");
    assert_eq!(printed.summary()["notes"], serde_json::json!([]));
    assert_eq!(sum(printed.map("@good")), made);
    assert_eq!(counted(printed.map("@took")), made);
    for map in ["@start", "@twice", "@name"] {
        assert_eq!(printed.all(map).count(), 0, "{map} is empty");
    }
    made
}

pub fn keys_of_a_real_program() -> Verdict {
    let program = COMING_AND_GOING.replace("PLACE", "libc:malloc");
    let printed = text(&program, &["ls", "-lR", "/usr/include"]);
    let made = came_and_went(&printed);
    let late = printed.map("@late").as_object().unwrap();
    let last: Vec<u64> = late.values().map(sum).collect();
    assert_eq!(last.len(), 20);
    assert!(last.iter().all(|&n| n >= made - 20), "{last:?}");
    Ok(Completion::Completed)
}

pub fn keys_of_many() -> Verdict {
    // Who is interrupted between a key and the one it takes away leaves that to nobody.
    let program = COMING_AND_GOING.replace("PLACE", "TARGET:step");
    let program = program
        .replace("@late[$n] = $n;", "")
        .replace("delete(@late[$n - 20]);", "");
    let printed = totals(&program, ["5000", "2"]);
    let made = made(&printed);
    assert_eq!(came_and_went(&printed), made.steps);
    Ok(Completion::Completed)
}

pub fn child_by_vfork() -> Verdict {
    let target = c("vforked").build();
    let program = r#"uprobe:TARGET:step { printf("%d %d\n", arg0, pid); }"#;
    let printed = text(
        &program.replace("TARGET", &target.to_string_lossy()),
        &[target.as_os_str()],
    );
    let words: Vec<&str> = printed.out.split_whitespace().collect();
    let [_, parent, _, child] = words[..] else {
        panic!("{}", printed.out);
    };
    let expected = format!("{parent} {parent}\n{child} {parent}\n");
    assert_eq!(printed.text(), expected);
    Ok(Completion::Completed)
}

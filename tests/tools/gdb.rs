//! Hits counted by gdb's breakpoints, from before the first constructor on, are the hits kptrace
//! counts.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::*;

/// gdb with these commands, on a command line; what it and the program say.
fn gdb(commands: &[String], line: &[&str]) -> Result<String, String> {
    let mut gdb = command("gdb");
    gdb.args(["-nx", "-batch"]);
    for setting in [
        "set confirm off",
        "set debuginfod enabled off",
        "set startup-with-shell off",
        // gdb sets these for the program, which prints by them.
        "unset environment LINES",
        "unset environment COLUMNS",
    ] {
        gdb.args(["-ex", setting]);
    }
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.arg("--args").args(line);
    let ended = start(gdb).end();
    if ended.err.contains("address space randomization") {
        return Err("gdb may not switch address space randomisation off".to_owned());
    }
    Ok(ended.out + &ended.err)
}

/// The file's address of a function, by its dynamic or full symbol table.
fn offset(file: &Path, name: &str) -> u64 {
    for table in ["-D", "-a"] {
        let nm = Command::new("nm")
            .arg(table)
            .arg("--defined-only")
            .arg(file)
            .output();
        let text = String::from_utf8_lossy(&nm.expect("nm runs").stdout).into_owned();
        let found = text.lines().find_map(|line| {
            let [address, _, symbol] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            let plain = symbol.split('@').next() == Some(name);
            plain.then(|| u64::from_str_radix(address, 16).expect("an address"))
        });
        if let Some(address) = found {
            return address;
        }
    }
    panic!("no {name} in {}", file.display());
}

/// Hits of each `(module, function)` as gdb counts them.
fn counted(line: &[&str], probes: &[(&str, &str)]) -> Result<Vec<u64>, String> {
    // All libraries are mapped then, and no constructor of theirs has run.
    let stop_when_loaded = ["starti", "tcatch load libc", "continue"].map(String::from);
    let commands = [&stop_when_loaded[..], &["info proc mappings".into()]].concat();
    let mapped = gdb(&commands, line)?;
    let base = |module: &str| -> (u64, String) {
        let row = mapped.lines().find(|row| {
            let path = row.split_whitespace().last().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            let row = row.trim_start().starts_with("0x") && path.starts_with('/');
            row && (name == module || name.starts_with(&format!("{module}.so")))
        });
        let row = row.unwrap_or_else(|| panic!("no {module} in {mapped}"));
        let mut words = row.split_whitespace();
        let start = words.next().expect("an address").trim_start_matches("0x");
        let start = u64::from_str_radix(start, 16).expect("an address");
        (start, words.last().expect("a path").to_owned())
    };
    let mut commands = stop_when_loaded.to_vec();
    for (number, (module, name)) in probes.iter().enumerate() {
        let (base, path) = base(module);
        let at = base + offset(Path::new(&path), name);
        commands.push(format!("break *{at:#x}"));
        commands.push(format!("ignore {} 1000000000", number + 2));
    }
    commands.extend(["continue".into(), "info breakpoints".into()]);
    let text = gdb(&commands, line)?;
    let (_, table) = text
        .split_once("Num ")
        .unwrap_or_else(|| panic!("no table in {text}"));
    let mut hits = vec![0; probes.len()];
    let mut current = 0;
    for row in table.lines() {
        if let Some(number) = row
            .split_whitespace()
            .next()
            .and_then(|w| w.parse::<usize>().ok())
        {
            current = number;
        }
        let times = row.trim().strip_prefix("breakpoint already hit ");
        if let Some(times) = times.and_then(|t| t.split(' ').next())
            && current >= 2
        {
            hits[current - 2] = times.parse().expect("a count");
        }
    }
    Ok(hits)
}

/// Both tools count the same on one command line.
fn agree(line: &[&str], probes: &[(&str, &str)]) -> Result<(), String> {
    let expected = counted(line, probes)?;
    let mut ours = vec!["run", "-c", "--format", "json"];
    let specs: Vec<String> = probes.iter().map(|(m, f)| format!("{m}:{f}")).collect();
    for spec in &specs {
        ours.extend(["-p", spec]);
    }
    ours.push("--");
    ours.extend(line);
    let summary = json::summary(&kptrace(&ours).err);
    for ((_, name), expected) in probes.iter().zip(expected) {
        assert!(expected > 0, "gdb sees {name}");
        assert_eq!(json::count(&summary, name), expected, "{name}: {summary}");
    }
    Ok(())
}

fn find(name: &str) -> String {
    let path = std::env::var("PATH").expect("a path");
    let mut places = path.split(':').map(|place| Path::new(place).join(name));
    let found = places
        .find(|path| path.is_file())
        .expect("it is everywhere");
    let real = fs::canonicalize(found).expect("it is there");
    real.to_str().expect("UTF-8").to_owned()
}

pub fn own_calls() -> Result<(), String> {
    let flags = ["-O2", "-pthread", "-fno-optimize-sibling-calls"];
    let program = c("calls").flags(&flags).build();
    let program = program.to_str().expect("UTF-8");
    agree(
        &[program],
        &[("calls", "fib"), ("calls", "twice"), ("libc", "malloc")],
    )
}

pub fn ls() -> Result<(), String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let ls = find("ls");
    agree(
        &[&ls, "-lR", directory],
        &[("libc", "malloc"), ("libc", "free"), ("libc", "readdir64")],
    )
}

pub fn shell() -> Result<(), String> {
    // A file: gdb takes no word with spaces when it starts a program without a shell.
    let script = tempfile::NamedTempFile::new().expect("a file");
    let text = "x=1\nfor i in a b c d; do x=$x$i; done\necho $x\nexec 2>/dev/null\n";
    fs::write(script.path(), text).expect("written");
    let script = script.path().to_str().expect("UTF-8");
    agree(
        &[&find("sh"), script],
        &[("libc", "malloc"), ("libc", "free")],
    )
}

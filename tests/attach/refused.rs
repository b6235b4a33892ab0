//! What cannot be attached to is refused with one line, and nothing is touched.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::every::{at_work, attach, let_go, round};
use super::support::*;

/// The one line that attaching to `pid` gives.
fn refusal(pid: u32) -> String {
    let ended = kptrace(&["attach", "-c", "-p", "*", &pid.to_string()]).expect(1);
    assert_eq!(ended.out, "");
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!(lines.len(), 1, "{}", ended.err);
    lines[0].to_owned()
}

#[test]
fn a_process_that_is_traced_names_its_tracer() {
    let mut target = at_work(&c("window_branches"));
    let first = attach(&target, &["-p", "check"]);
    let line = refusal(target.pid());
    assert!(line.contains(&format!("already traced by pid {} (kptrace)", first.pid())), "{line}");
    round(&mut target);
    let told = let_go(first);
    assert!(json::count(&told, "check") > 0, "{told}");
    round(&mut target);
    target.end().expect(0);
}

#[test]
fn a_process_that_has_ended_and_a_zombie_are_told_apart() {
    let mut child = Command::new("true").spawn().expect("true runs");
    let stat = format!("/proc/{}/stat", child.id());
    let end = std::time::Instant::now() + LIMIT;
    while !std::fs::read_to_string(&stat).expect("our child").contains(") Z ") {
        assert!(std::time::Instant::now() < end, "true does not end");
        std::thread::yield_now();
    }
    let line = refusal(child.id());
    assert!(line.contains("it is a zombie"), "{line}");
    child.wait().expect("it ended");
    let line = refusal(child.id());
    assert!(line.contains("no such process"), "{line}");
}

#[test]
fn a_thread_that_is_no_process_names_its_process() {
    let mut target = at_work(&c("raw_syscall").flags(&["-pthread"]));
    round(&mut target);
    let pid = target.pid();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let thread = tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok())
        .find(|&tid| tid != pid);
    let line = refusal(thread.expect("it has two"));
    assert!(line.contains(&format!("kptrace attach {pid}")), "{line}");
    target.end().expect(0);
}

/// A 32-bit program that waits for the end of its input and exits with 0: a header, one program
/// header, and code, as the gABI and the i386 system calls have it.
fn program_of_32_bits() -> Vec<u8> {
    let base: u32 = 0x0804_8000;
    let code: &[u8] = &[
        0xb8, 3, 0, 0, 0, // mov $3,%eax: read
        0x31, 0xdb, // xor %ebx,%ebx
        0x89, 0xe1, // mov %esp,%ecx
        0xba, 1, 0, 0, 0, // mov $1,%edx
        0xcd, 0x80, // int $0x80
        0xb8, 1, 0, 0, 0, // mov $1,%eax: exit
        0x31, 0xdb, // xor %ebx,%ebx
        0xcd, 0x80, // int $0x80
    ];
    let size = u32::try_from(0x54 + code.len()).expect("small");
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1];
    file.resize(16, 0);
    for half in [2_u16, 3] {
        file.extend(half.to_le_bytes());
    }
    for word in [1, base + 0x54, 0x34, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    for half in [0x34_u16, 0x20, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [1, 0, base, base, size, size, 5, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    assert_eq!(file.len(), 0x54);
    file.extend(code);
    file
}

#[test]
fn a_32_bit_program_is_refused_and_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("of32");
    std::fs::write(&path, program_of_32_bits()).expect("it can be written");
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&path, mode).expect("ours");
    let mut command = Command::new(&path);
    command.stdin(Stdio::piped());
    // SAFETY of the test: without 32-bit support in the kernel there is nothing to refuse.
    let Ok(mut child) = command.process_group(0).spawn() else {
        eprintln!("this kernel runs no 32-bit programs: nothing to refuse");
        return;
    };
    let line = refusal(child.id());
    assert!(line.contains("32-bit"), "{line}");
    drop(child.stdin.take());
    assert!(child.wait().expect("our child").success());
    let ran = kptrace(&["run", "-c", "-p", "*", "--", path.to_str().expect("UTF-8")]);
    assert_eq!(ran.status.code(), Some(125), "{}", ran.err);
    assert!(ran.err.contains("32-bit"), "{}", ran.err);
}

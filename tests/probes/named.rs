//! Arguments of libc's functions by the names of their prototypes, in a program without debug
//! information that makes known calls.

use std::io::Write as _;

use libtest_mimic::Completion;

use super::Verdict;
use super::need;
use super::printed::run;

/// Calls with values that are known; the first argument is a directory.
const CALLS: &str = "
import os, socket, sys
os.chdir(sys.argv[1])
os.mkdir('made', 0o700)
os.rename('made', 'moved')
os.rmdir('moved')
os.access('nowhere', os.R_OK)
fd = os.open('file', os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, b'x' * 321)
os.lseek(fd, 21, 0)
os.read(fd, 4321)
os.ftruncate(fd, 123)
os.fsync(fd)
os.close(fd)
os.symlink('file', 'link')
os.readlink('link')
os.unlink('link')
os.environ['NAMED'] = 'a value'
os.kill(os.getpid(), 0)
one = socket.socket()
one.bind(('127.0.0.1', 0))
one.listen(77)
two = socket.socket()
two.connect(one.getsockname())
two.send(b'y' * 55)
";

/// A probe, what it prints, and the line it prints of one of those calls.
const NAMED: [(&str, &str, &str); 18] = [
    ("chdir", r#""%d", str(args.path) != """#, "chdir 1"),
    (
        "mkdir",
        r#""%s %d", str(args.pathname), args.mode"#,
        "mkdir made 448",
    ),
    (
        "rename",
        r#""%s %s", str(args.oldpath), str(args.newpath)"#,
        "rename made moved",
    ),
    ("rmdir", r#""%s", str(args.pathname)"#, "rmdir moved"),
    (
        "access",
        r#""%s %d", str(args.pathname), args.mode"#,
        "access nowhere 4",
    ),
    (
        "open",
        r#""%s %d %d", str(args.pathname), args.flags & 3, args.mode"#,
        "open file 2 384",
    ),
    ("write", r#""%d", args.count"#, "write 321"),
    (
        "lseek",
        r#""%d %d", args.offset, args.whence"#,
        "lseek 21 0",
    ),
    ("read", r#""%d", args.count"#, "read 4321"),
    ("ftruncate", r#""%d", args.length"#, "ftruncate 123"),
    ("fsync", r#""%d", args.fd > 2"#, "fsync 1"),
    ("readlink", r#""%s", str(args.pathname)"#, "readlink link"),
    ("unlink", r#""%s", str(args.pathname)"#, "unlink link"),
    (
        "setenv",
        r#""%s=%s", str(args.name), str(args.value)"#,
        "setenv NAMED=a value",
    ),
    ("kill", r#""%d %d", args.pid == pid, args.sig"#, "kill 1 0"),
    ("listen", r#""%d", args.backlog"#, "listen 77"),
    ("connect", r#""%d", args.addrlen"#, "connect 16"),
    ("send", r#""%d %d", args.len, args.flags"#, "send 55 0"),
];

pub fn prototypes() -> Verdict {
    let [python] = match need::all(["python3.11"]) {
        Ok(found) => found,
        Err(missing) => return missing,
    };
    let mut program = tempfile::NamedTempFile::new().unwrap();
    for (function, shown, _) in NAMED {
        let shown = shown.replacen('"', &format!("\"{function} "), 1);
        let (format, values) = shown.split_once("\",").unwrap();
        writeln!(
            program,
            "uprobe:libc:{function} {{ printf({format}\\n\",{values}); }}"
        )
        .unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    let words = [
        python.to_str().unwrap(),
        "-I",
        "-S",
        "-c",
        CALLS,
        place.path().to_str().unwrap(),
    ];
    let text = run(program.path(), &words, 0).text();
    // What comes before is Python's own.
    let start = text.rfind("chdir 1\n").unwrap();
    let text = &text[start..];
    for (function, _, line) in NAMED {
        let times = text.lines().filter(|one| *one == line).count();
        assert_eq!(times, 1, "{function}: {line}\n{text}");
    }
    Ok(Completion::Completed)
}

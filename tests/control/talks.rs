//! Who talks to a session, and how: several at once, some who hang, die or say nonsense, others' users.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;

use serde_json::json;

use super::session::*;
use super::support::*;

#[test]
fn the_list_has_the_columns_of_the_kernels() {
    let session = Session::with(toggles(1), &["-p", "steady", "-p", "crowded+0x4"]);
    session.talk();
    let text = session.ctl(&["list"]).expect(0).out;
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert!(lines[0][0].starts_with("0x"), "{text}");
    assert_eq!(
        lines[0][1..5],
        ["k", "steady+0x0", "toggles", "[JUMP]"],
        "{text}"
    );
    assert_eq!(
        lines[1][1..5],
        ["k", "crowded+0x4", "toggles", "[JUMP]"],
        "{text}"
    );
    let json = session.ctl(&["list", "--json"]).expect(0).out;
    let probes = json::objects(&json);
    assert_eq!(
        (&probes[1]["symbol"], &probes[1]["offset"]),
        (&json!("crowded"), &json!(4))
    );
    assert_eq!(session.ctl(&["disable", "crowded"]).code(), 3);
    let said = session.ctl(&["disable", "crowded+0x4"]).expect(0).out;
    assert_eq!(said, "1 probe; armed 1 site: 1 jump, 0 traps\n");
    assert!(session.ctl(&["list"]).expect(0).out.contains("[DISABLED]"));
    let said = session.ctl(&["off"]).expect(0).out;
    assert_eq!(said, "off: 2 sites restored and verified\n");
    session.ctl(&["detach"]).expect(0);
    session.kptrace.end().expect(0);
    session.target.end().expect(0);
}

#[test]
fn nonsense_is_answered_with_an_error_line_and_the_next_request_as_ever() {
    let session = Session::with(toggles(1), &["-p", "steady"]);
    let mut talk = session.talk();
    for line in [
        "",
        "list",
        "{}",
        "[[[[",
        "{\"do\":\"list\"",
        "{\"do\":\"opt\"}",
        "\u{1b}[31m",
    ] {
        talk.say(line);
        assert!(talk.answer()["error"].is_string(), "{line}");
    }
    talk.0
        .get_mut()
        .write_all(b"\xff\xfe\n")
        .expect("it listens");
    assert!(talk.answer()["error"].is_string());
    // Many at once, in pieces.
    for _ in 0..200 {
        talk.0.get_mut().write_all(b"{\"do\":").expect("it listens");
        talk.0
            .get_mut()
            .write_all(b"\"list\"}\n")
            .expect("it listens");
    }
    for _ in 0..200 {
        assert_eq!(talk.answer()["probes"][0]["symbol"], "steady");
    }
    // One without end is given up.
    let mut endless = session.talk();
    let long = vec![b'x'; 1 << 20];
    let _ = endless.0.get_mut().write_all(&long);
    assert_eq!(talk.ask(&json!({"do": "list"}))["armed"], 1);
    session.let_go().0.end().expect(0);
}

#[test]
fn clients_that_hang_or_die_hold_up_nobody() {
    let mut session = Session::with(toggles(2), &["-p", "*", "-p", "libc:*"]);
    let mut talk = session.talk();
    let mut silent: Vec<Talk> = (0..8).map(|_| session.talk()).collect();
    for (index, other) in silent.iter_mut().enumerate() {
        // Half a request; or answers that nobody reads; or an end in the middle of one.
        match index % 3 {
            0 => other
                .0
                .get_mut()
                .write_all(b"{\"do\":")
                .expect("it listens"),
            _ => (0..20).for_each(|_| other.say("{\"do\":\"list\"}")),
        }
    }
    silent.truncate(5);
    for _ in 0..5 {
        session.round();
        talk.ask(&json!({"do": "off"}));
        talk.ask(&json!({"do": "on"}));
        session.agrees(&mut talk);
    }
    drop(silent);
    // More than there is room for are told so.
    let many: Vec<Talk> = (0..40).map(|_| session.talk()).collect();
    let mut last = many.into_iter().next_back().expect("many");
    assert!(
        last.answer()["error"]
            .as_str()
            .expect("why")
            .contains("too many")
    );
    talk.ask(&json!({"do": "list"}));
    session.let_go().0.end().expect(0);
}

#[test]
fn the_socket_is_the_users_alone_and_a_stale_one_is_replaced() {
    let session = Session::with(toggles(1), &["-p", "steady"]);
    session.talk();
    let socket = session.socket();
    let place = std::fs::metadata(socket.parent().expect("a directory")).expect("it is there");
    assert_eq!(place.mode() & 0o777, 0o700);
    let Session {
        target,
        kptrace,
        runtime,
        text,
    } = session;
    kptrace.signal(nix::sys::signal::Signal::SIGKILL);
    kptrace.end();
    assert!(socket.exists(), "nobody could take it away");
    let mut line = command(launch::binary());
    line.env("XDG_RUNTIME_DIR", runtime.path());
    line.args(["attach", "-q", "-c", "--format", "json", "-p", "steady"]);
    line.arg(target.pid().to_string());
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    let session = Session {
        target,
        kptrace,
        runtime,
        text,
    };
    let mut talk = session.talk();
    let list = session.agrees(&mut talk);
    assert_eq!(list["armed"], 1);
    session.let_go().0.end().expect(0);
    assert!(!socket.exists());
}

#[test]
fn where_the_runtime_directory_is_open_to_others_another_is_used() {
    let target = toggles(1);
    let pid = target.pid().to_string();
    let runtime = tempfile::tempdir().expect("a directory");
    let open = runtime.path().join("kptrace");
    private(&open);
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&open, anybody).expect("it is ours");
    let mut line = command(launch::binary());
    line.env("XDG_RUNTIME_DIR", runtime.path());
    line.args(["attach", "-c", "--format", "json", "-p", "steady"])
        .arg(&pid);
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    let session = Session {
        target,
        kptrace,
        runtime,
        text: BTreeMap::new(),
    };
    let end = std::time::Instant::now() + LIMIT;
    while session.ctl(&["list"]).code() != 0 {
        assert!(
            std::time::Instant::now() < end,
            "it is found in the other place"
        );
    }
    assert!(!open.join(&pid).exists());
    session.let_go().0.end().expect(0);
}

#[test]
fn who_is_not_traced_cannot_be_controlled() {
    let target = toggles(1);
    let pid = target.pid().to_string();
    let said = kptrace(&["ctl", &pid, "list"]).expect(1);
    assert!(said.err.contains("is not traced"), "{}", said.err);
    let said = kptrace(&["ctl", "999999999", "list"]).expect(1);
    assert!(said.err.contains("no process"), "{}", said.err);
    target.end().expect(0);
}

/// Any user but root and the one that runs this; only root can be another.
const SOMEBODY: u32 = 65_534;

#[test]
fn another_user_is_refused_and_root_is_not() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be two users");
        return;
    }
    let as_user = |uid: u32, line: &mut std::process::Command| {
        line.uid(uid).gid(uid);
    };
    // Root's session: somebody else is refused.
    let session = Session::with(toggles(1), &["-p", "steady"]);
    session.talk();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(session.runtime.path(), open).expect("it is ours");
    let binary = tempfile::tempdir().expect("a directory");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(binary.path(), open).expect("it is ours");
    let copy = binary.path().join("kptrace");
    std::fs::copy(launch::binary(), &copy).expect("a copy that anybody may run");
    let pid = session.target.pid().to_string();
    let mut line = command(&copy);
    line.args(["ctl", &pid, "off"]);
    as_user(SOMEBODY, &mut line);
    let said = start(line).end().expect(1);
    assert!(said.err.contains("only root"), "{}", said.err);
    // Past the client and the directory: the session itself looks who asks.
    let place = session.socket();
    for path in [place.parent().expect("a directory"), &place] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, open).expect("it is ours");
    }
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                  print(s.recv(4096).decode())";
    if has("python3") {
        let mut line = command("python3");
        line.args(["-c", script]).arg(&place);
        as_user(SOMEBODY, &mut line);
        let said = start(line).end();
        assert!(
            said.out.contains("only the user"),
            "{}{}",
            said.out,
            said.err
        );
    }
    session.let_go().0.end().expect(0);
    // Somebody's session: root may.
    let runtime = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(runtime.path(), Some(SOMEBODY), Some(SOMEBODY)).expect("root may");
    let program = binary.path().join("toggles");
    std::fs::copy(c("toggles").flags(&["-pthread"]).build(), &program).expect("a copy");
    let mut line = command(&program);
    line.arg("2").stdin(std::process::Stdio::piped());
    as_user(SOMEBODY, &mut line);
    let mut target = start(line);
    target.out.wait_for("ready");
    let mut line = command(&copy);
    line.env("XDG_RUNTIME_DIR", runtime.path());
    line.env_remove("XDG_CACHE_HOME").env_remove("HOME");
    line.args(["attach", "-c", "--format", "json", "-p", "steady"]);
    line.arg(target.pid().to_string());
    as_user(SOMEBODY, &mut line);
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    let session = Session {
        target,
        kptrace,
        runtime,
        text: BTreeMap::new(),
    };
    session.talk();
    let said = session.ctl(&["off"]).expect(0);
    assert!(said.out.contains("1 site restored"), "{}", said.out);
    session.let_go().0.end().expect(0);
}

//! Everything that can be switched, while threads call what it is switched at.

use nix::sys::signal::Signal;
use serde_json::json;

use super::session::*;
use super::support::*;

#[test]
fn off_restores_all_text_and_on_arms_it_again() {
    let mut session = Session::with(toggles(4), &["-p", "*", "-p", "libc:*"]);
    let mut talk = session.talk();
    let before = session.agrees(&mut talk);
    for _ in 0..3 {
        session.round();
        let off = talk.ask(&json!({"do": "off"}));
        assert!(
            off["restored"].as_u64() > Some(2000) && off["left"] == 0,
            "{off}"
        );
        assert_eq!(changed(session.target.pid()), [""; 0]);
        let list = session.agrees(&mut talk);
        assert!(
            list["on"] == false && list["armed"] == 0,
            "{}",
            list["armed"]
        );
        let hits = listed(&list, "steady", 0)["hits"].clone();
        session.round();
        let list = session.agrees(&mut talk);
        assert_eq!(
            listed(&list, "steady", 0)["hits"],
            hits,
            "nothing is counted"
        );
        let on = talk.ask(&json!({"do": "on"}));
        assert_eq!(on["armed"], before["armed"]);
        session.round();
        let list = session.agrees(&mut talk);
        assert!(listed(&list, "steady", 0)["hits"].as_u64() > hits.as_u64());
    }
    let (target, told) = session.let_go();
    assert_eq!(told["armed"], before["armed"]);
    target.end().expect(0);
}

#[test]
fn signals_switch_all_off_and_on_and_say_so() {
    let mut session = Session::with(toggles(2), &["-p", "steady"]);
    session.talk();
    session.kptrace.signal(Signal::SIGUSR1);
    session.kptrace.err.wait_for("1 site restored");
    assert_eq!(changed(session.target.pid()), [""; 0]);
    session.round();
    session.kptrace.signal(Signal::SIGUSR2);
    session.kptrace.err.wait_for("armed 1 site");
    session.round();
    let (target, told) = session.let_go();
    assert!(json::count(&told, "steady") > 0);
    target.end().expect(0);
}

#[test]
fn opt_off_makes_breakpoints_of_all_jumps_and_opt_on_jumps_again() {
    let limit = ["--trap-limit", "0"];
    let mut session = Session::with(
        toggles(2),
        &[&["-p", "outer", "-p", "inner"][..], &limit].concat(),
    );
    let mut talk = session.talk();
    let off = talk.ask(&json!({"do": "opt", "on": false}));
    assert_eq!(
        (off["jump"].as_u64(), off["trap"].as_u64()),
        (Some(0), Some(2))
    );
    let list = session.agrees(&mut talk);
    let inner = listed(&list, "inner", 0);
    assert_eq!(
        (&inner["state"], &inner["reason"]),
        (&json!("trap"), &json!("jumps are switched off"))
    );
    session.round();
    talk.ask(&json!({"do": "opt", "on": true}));
    session.round();
    let list = session.agrees(&mut talk);
    assert_eq!(
        (list["jump"].as_u64(), list["trap"].as_u64()),
        (Some(2), Some(0))
    );
    session.let_go().0.end().expect(0);
}

#[test]
fn one_of_two_probes_at_a_site_is_switched_and_the_other_goes_on() {
    let mut session = Session::with(
        toggles(2),
        &["-p", "steady", "-p", "steady n=%di", "-p", "inner"],
    );
    let mut talk = session.talk();
    talk.ask(&json!({"do": "disable", "probe": 0}));
    let before = session.agrees(&mut talk);
    let hits = |list: &serde_json::Value, id: usize| list["probes"][id]["hits"].as_u64();
    assert_eq!(before["probes"][0]["state"], "disabled");
    assert_eq!(before["probes"][1]["state"], "jump");
    session.round();
    let after = session.agrees(&mut talk);
    assert_eq!(hits(&after, 0), hits(&before, 0));
    assert!(hits(&after, 1) > hits(&before, 1));
    // The last one restores the site.
    talk.ask(&json!({"do": "disable", "probe": "stead*"}));
    let list = session.agrees(&mut talk);
    assert_eq!(list["armed"], 1);
    talk.ask(&json!({"do": "enable", "probe": "steady"}));
    session.round();
    let list = session.agrees(&mut talk);
    assert!(hits(&list, 0) > hits(&after, 0));
    assert!(
        talk.refused(&json!({"do": "enable", "probe": "nothing"}))
            .contains("nothing")
    );
    assert!(
        talk.refused(&json!({"do": "enable", "probe": 3}))
            .contains("no probe 3")
    );
    session.let_go().0.end().expect(0);
}

#[test]
fn probes_come_and_go_at_overlapping_places() {
    let mut session = Session::with(toggles(3), &["-p", "crowded", "--trap-limit", "0"]);
    let mut talk = session.talk();
    assert_eq!(session.agrees(&mut talk)["jump"], 1);
    talk.ask(&json!({"do": "add", "probe": "crowded+0x4"}));
    let list = session.agrees(&mut talk);
    assert_eq!(
        (&list["jump"], &list["trap"]),
        (&json!(0), &json!(2)),
        "{list}"
    );
    let why = listed(&list, "crowded", 0)["reason"]
        .as_str()
        .expect("a reason");
    assert!(why.starts_with("blocked by"), "{why}");
    session.round();
    let list = session.agrees(&mut talk);
    let hits = |offset| {
        listed(&list, "crowded", offset)["hits"]
            .as_u64()
            .expect("hits")
    };
    assert!(
        hits(4) > 0,
        "a hit that came through the first site is one of the second: {list}"
    );
    talk.ask(&json!({"do": "remove", "probe": "crowded+0x4"}));
    let list = session.agrees(&mut talk);
    assert_eq!(
        (&list["jump"], &list["trap"]),
        (&json!(1), &json!(0)),
        "{list}"
    );
    assert_eq!(list["probes"].as_array().map(Vec::len), Some(1));
    // Again, and the older one leaves first.
    talk.ask(&json!({"do": "add", "probe": "crowded+0x4"}));
    talk.ask(&json!({"do": "remove", "probe": 0}));
    let list = session.agrees(&mut talk);
    assert_eq!(list["armed"], 1, "{list}");
    session.round();
    let why = talk.refused(&json!({"do": "add", "probe": "no_such_function"}));
    assert!(why.contains("no such function"), "{why}");
    let why = talk.refused(&json!({"do": "add", "probe": "steady n=%di:nothing"}));
    assert!(why.contains("error"), "{why}");
    let (target, told) = session.let_go();
    let removed = json::probe(&told, "crowded");
    assert_eq!(
        (&removed["state"], &removed["reason"]),
        (&json!("disabled"), &json!("it was removed"))
    );
    target.end().expect(0);
}

#[test]
fn a_probe_is_added_in_a_library_and_taken_away_by_a_pattern() {
    let mut session = Session::with(toggles(2), &["-p", "steady"]);
    let mut talk = session.talk();
    let added = talk.ask(&json!({"do": "add", "probe": "libc:str*"}));
    assert!(added["probes"].as_u64() > Some(20), "{added}");
    session.agrees(&mut talk);
    session.round();
    let again = talk.ask(&json!({"do": "add", "probe": "libc:str*"}));
    assert_eq!(again["probes"], 0, "they are there");
    let removed = talk.ask(&json!({"do": "remove", "probe": "libc:*"}));
    assert_eq!(removed["probes"], added["probes"]);
    let list = session.agrees(&mut talk);
    assert_eq!(list["probes"].as_array().map(Vec::len), Some(1));
    let again = talk.ask(&json!({"do": "add", "probe": "libc:str*"}));
    assert_eq!(again["probes"], added["probes"]);
    session.let_go().0.end().expect(0);
}

#[test]
fn calls_under_way_pass_through_whatever_is_switched() {
    let mut session = Session::with(toggles(4), &["-p", "outer%call", "-p", "inner%call"]);
    let mut talk = session.talk();
    for _ in 0..10 {
        session.round();
        talk.ask(&json!({"do": "off"}));
        talk.ask(&json!({"do": "on"}));
        talk.ask(&json!({"do": "disable", "probe": "outer%return"}));
        session.agrees(&mut talk);
        talk.ask(&json!({"do": "enable", "probe": "outer"}));
        talk.ask(&json!({"do": "remove", "probe": "inner"}));
        session.agrees(&mut talk);
        talk.ask(&json!({"do": "add", "probe": "inner%call"}));
    }
    session.agrees(&mut talk);
    session.let_go().0.end().expect(0);
}

#[test]
fn returns_are_not_added_where_none_were_probed() {
    let session = Session::with(toggles(1), &["-p", "steady"]);
    let why = session
        .talk()
        .refused(&json!({"do": "add", "probe": "inner%return"}));
    assert!(why.contains("from the start"), "{why}");
    session.let_go().0.end().expect(0);
}

#[test]
fn detach_lets_go_and_ends_the_session() {
    let session = Session::with(toggles(2), &["-p", "*"]);
    let mut talk = session.talk();
    talk.ask(&json!({"do": "detach"}));
    let socket = session.socket();
    let told = summary(&session.kptrace.end().expect(0).out);
    assert!(told["armed"].as_u64() > Some(4), "{told}");
    assert_eq!(changed(session.target.pid()), [""; 0]);
    assert!(!socket.exists());
    session.target.end().expect(0);
}

#[test]
fn a_list_tells_how_long_calls_lasted() {
    let runtime = tempfile::tempdir().expect("a directory");
    let target = toggles(2);
    let mut line = command(launch::binary());
    line.env("XDG_RUNTIME_DIR", runtime.path());
    line.args(["attach", "--format", "summary", "--call", "-p", "outer"]);
    line.arg(target.pid().to_string());
    let kptrace = start(line);
    let mut session = Session {
        target,
        kptrace,
        runtime,
        text: Default::default(),
    };
    let mut talk = session.talk();
    let end = std::time::Instant::now() + LIMIT;
    let row = loop {
        session.round();
        let list = talk.ask(&json!({"do": "list"}));
        let probes = list["probes"].as_array().expect("probes").clone();
        let row = probes
            .into_iter()
            .find(|probe| probe["calls"].as_u64() > Some(100));
        if let Some(row) = row {
            break row;
        }
        assert!(std::time::Instant::now() < end, "{list}");
    };
    assert_eq!(
        (&row["symbol"], &row["kind"]),
        (&json!("outer"), &json!("return"))
    );
    let number = |key: &str| row[key].as_u64().expect("a number");
    assert!(
        number("p99_ns") * number("calls") / 100 <= number("total_ns"),
        "{row}"
    );
    assert!(number("calls") <= number("hits"), "{row}");
    session.kptrace.signal(Signal::SIGINT);
    session.kptrace.end().expect(0);
    session.target.end().expect(0);
}

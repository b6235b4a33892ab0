//! Random requests at full speed to a session whose target is under load: what is listed is what stands
//! in memory at every checkpoint, the target's work comes out right, and nothing is left afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::redis;
use super::session::*;
use super::support::*;

/// One random request. What it must answer depends on what was asked before: any answer is fine, an
/// error only where a probe is not there.
fn request(rng: &mut Rng, names: &[String]) -> Value {
    let mut name = || names[rng.below(names.len())].clone();
    let (one, other) = (name(), name());
    match rng.below(12) {
        0 => json!({"do": "off"}),
        1 | 2 => json!({"do": "on"}),
        3 => json!({"do": "opt", "on": false}),
        4 => json!({"do": "opt", "on": true}),
        5 | 6 => json!({"do": "disable", "probe": one}),
        7 => json!({"do": "enable", "probe": one}),
        8 => json!({"do": "enable", "probe": format!("{}*", &one[..one.len().min(4)])}),
        9 => json!({"do": "add", "probe": other}),
        10 => json!({"do": "remove", "probe": one}),
        _ => json!({"do": "add", "probe": format!("{one} a=%di")}),
    }
}

/// Asks for so many things, and compares memory with the list now and then.
fn torment(session: &Session, rng: &mut Rng, names: &[String], requests: u32) {
    let mut talk = session.talk();
    for n in 0..requests {
        let request = request(rng, names);
        talk.say(&request.to_string());
        let answer = talk.answer();
        let missing = answer["status"] == 3;
        assert!(
            answer["ok"] == true || missing,
            "request {n}, {request}: {answer}"
        );
        if n % 50 == 49 {
            session.agrees(&mut talk);
        }
    }
    for request in [
        json!({"do": "on"}),
        json!({"do": "opt", "on": true}),
        json!({"do": "list"}),
    ] {
        talk.ask(&request);
    }
    session.agrees(&mut talk);
}

fn threads(threads: u32, requests: u32) {
    let mut rng = Rng::seeded(6);
    let mut session = Session::with(
        toggles(threads),
        &[
            "-p",
            "*",
            "-p",
            "crowded+0x1",
            "-p",
            "crowded+0x4",
            "--trap-limit",
            "0",
        ],
    );
    let names = [
        "crowded",
        "crowded+0x1",
        "crowded+0x4",
        "crowded+0x8",
        "steady",
        "inner",
        "outer",
        "scaled",
        "work",
    ];
    let names = names.map(str::to_owned);
    torment(&session, &mut rng, &names, requests);
    session.round();
    let (target, _) = session.let_go();
    let ended = target.end().expect(0);
    assert!(ended.out.contains("right"), "{}", ended.out);
}

#[test]
fn random_requests_under_calling_threads_leave_all_as_it_should_be() {
    threads(4, 150);
}

#[test]
#[ignore = "minutes; the same with few requests is above"]
fn a_thousand_random_requests_under_sixteen_threads() {
    threads(16, 1000);
}

fn redis_under_load(requests: u32) {
    let (server, client) = ("redis-server", "redis-benchmark");
    if !(has(server) && has(client)) {
        eprintln!("skipped: redis-server is not installed");
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let argv = redis::server("/usr/bin/redis-server".as_ref(), place.path());
    let mut line = command(&argv[0]);
    line.args(&argv[1..]);
    let mut target = start(line);
    target.out.wait_for(redis::READY);
    let mut rng = Rng::seeded(6);
    let session = Session::with(target, &["-p", "*", "--trap-limit", "0"]);
    let list = session.talk().ask(&json!({"do": "list"}));
    let probes = list["probes"].as_array().expect("probes");
    let names: Vec<String> = probes
        .iter()
        .filter_map(|probe| probe["symbol"].as_str())
        .filter(|name| name.len() > 3 && name.chars().all(|c| c.is_ascii_alphanumeric()))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 2000, "{}", names.len());
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let rounds = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                let done = redis::benchmark("redis-benchmark".as_ref(), place.path(), 2_000);
                done?;
                rounds += 1;
            }
            Ok::<u32, String>(rounds)
        });
        torment(&session, &mut rng, &names, requests);
        over.store(true, Ordering::Relaxed);
        load.join().expect("it ends")
    });
    let rounds = rounds.unwrap_or_else(|why| panic!("{why}"));
    println!(
        "{requests} requests in {:?}, {rounds} rounds of the benchmark",
        begun.elapsed()
    );
    redis::is_right(&mut redis::Client::new(place.path()));
    let (target, _) = session.let_go();
    redis::is_right(&mut redis::Client::new(place.path()));
    target.signal(nix::sys::signal::Signal::SIGTERM);
    target.end().expect(0);
}

#[test]
fn redis_under_load_works_while_everything_is_switched() {
    redis_under_load(60);
}

#[test]
#[ignore = "minutes; the same with few requests is above"]
fn redis_under_load_works_through_a_thousand_requests() {
    redis_under_load(1000);
}

/// Sites go from jump to original text and back, all of them at once, until so many have.
fn transitions(threads: u32, wanted: u64) {
    let mut session = Session::with(working("crowd", threads), &["-p", "small_*"]);
    let mut talk = session.talk();
    let armed = session.agrees(&mut talk)["jump"].as_u64();
    assert_eq!(armed, Some(1000));
    let begun = Instant::now();
    let mut made = 0;
    let mut turn = 0;
    while made < wanted {
        let off = talk.ask(&json!({"do": "off"}));
        assert!(off["restored"] == 1000 && off["left"] == 0, "{off}");
        let on = talk.ask(&json!({"do": "on"}));
        made += 1000 + on["armed"].as_u64().expect("a count");
        turn += 1;
        if turn % 50 == 0 {
            session.round();
            session.agrees(&mut talk);
        }
    }
    let rate = made as f64 / begun.elapsed().as_secs_f64();
    println!("{made} transitions of sites under {threads} threads: {rate:.0} a second");
    session.round();
    let list = session.agrees(&mut talk);
    assert_eq!(list["armed"], 1000);
    session.round();
    let later = session.agrees(&mut talk);
    let hits = |list: &Value| list["probes"][500]["hits"].as_u64();
    assert!(hits(&later) > hits(&list), "it counts still");
    session.let_go().0.end().expect(0);
}

#[test]
fn sites_change_many_times_under_calling_threads() {
    transitions(4, 20_000);
}

#[test]
#[ignore = "a minute; the same with fewer is above"]
fn a_million_transitions_under_sixteen_calling_threads() {
    transitions(16, 1_000_000);
}

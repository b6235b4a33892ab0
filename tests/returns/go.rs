//! A program in Go, as it serves: entries of its functions are counted, returns are refused by name.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::LIMIT;
use crate::support::build::{self, Source};
use crate::support::json;
use crate::support::launch::{self, kptrace};

fn fetch(port: u16, name: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let request = format!("GET /{name} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// What any thread of a process started under this name.
fn child(pid: u32, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let all: String = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .collect();
    let mut named = all.split_whitespace().filter(|child| {
        let comm = std::fs::read_to_string(format!("/proc/{child}/comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    });
    let found = named.next().expect("it runs");
    found.parse().expect("a number")
}

#[test]
fn entries_of_a_go_program_are_counted_under_load_and_returns_refused() {
    if !build::has("rclone") {
        println!("skipped: there is no rclone");
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let served = place.path().join("served");
    std::fs::create_dir(&served).expect("a directory");
    std::fs::write(served.join("file"), "what is served").expect("a file");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let summary = place.path().join("summary");
    let mut command = launch::command(launch::binary());
    command.args(["run", "-q", "-c", "--format", "json", "-o"]);
    command.arg(&summary);
    command.args(["-p", "*%call"]);
    command.args(["--", "rclone", "serve", "http", "-v", "--config"]);
    command.arg("/dev/null");
    command.arg("--addr").arg(format!("127.0.0.1:{port}"));
    command.arg(&served);
    let server = launch::start(command);
    // It does not say that it listens.
    let limit = Instant::now() + LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "it does not listen");
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let answer = fetch(port, "file");
                    assert!(answer.ends_with("what is served"), "{answer}");
                }
            });
        }
    });
    let pid = child(server.pid(), "rclone");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    server.end();
    let text = std::fs::read_to_string(&summary).expect("a summary");
    let summary = json::summary(&text);
    let probes = summary["probes"].as_array().expect("probes");
    let number = |name: &str, kind: &str| {
        let of = |probe: &&serde_json::Value| probe["name"] == name && probe["kind"] == kind;
        let found = probes.iter().find(of).expect("it is probed");
        found["hits"].as_u64().expect("a number")
    };
    let requests = number("net/http.(*conn).serve", "entry");
    assert!(requests >= 200, "{requests}");
    assert!(number("runtime.mallocgc", "entry") > requests);
    let returns: Vec<_> = probes.iter().filter(|p| p["kind"] == "return").collect();
    let mut go = 0;
    for probe in returns {
        assert_eq!(probe["state"], "refused", "{probe}");
        let reason = probe["reason"].as_str().expect("a reason");
        // Some are refused at their entries.
        go += usize::from(reason.starts_with("Go moves its stacks"));
    }
    assert!(go > 10_000, "{go}");
}

/// Goroutines return to the second byte of a function, and nothing in the file says so.
#[test]
fn the_end_of_goroutines_is_entered_at_its_second_instruction() {
    let text = "#include <stdio.h>\n\
        static long ends;\n\
        __attribute__((used)) void ends_here(void) { ends++; }\n\
        void goexit(void);\n\
        __asm__(\".section .gopclntab, \\\"a\\\"; .long 0xfffffff1; .text\\n\"\n\
        \".globl goexit; .type goexit, @function; .p2align 4, 0xcc\\n\"\n\
        \"goexit: nop; call left; nop; .size goexit, . - goexit; .p2align 4, 0xcc\\n\"\n\
        \"left: call ends_here; add $8, %rsp; ret\\n\");\n\
        int main(void) {\n\
        for (int i = 0; i < 100; i++)\n\
        __asm__ volatile(\"sub $128, %%rsp; lea 1f(%%rip), %%rax; push %%rax; mov %0, %%rax; inc %%rax\\n\"\n\
        \"jmp *%%rax; 1: add $128, %%rsp\" :: \"r\"(&goexit) : \"rax\", \"rcx\", \"rdx\", \"rsi\", \"rdi\",\n\
        \"r8\", \"r9\", \"r10\", \"r11\", \"memory\", \"cc\");\n\
        printf(\"%ld\\n\", ends); return 0; }\n";
    let program = Source::new("cc", "c", "goroutines", text).build();
    let path = program.to_str().expect("UTF-8");
    let ended = kptrace(&["run", "-c", "--format", "json", "-p", "*", "--", path]).expect(0);
    assert_eq!(ended.out, "100\n");
    let summary = json::summary(&ended.err);
    assert_eq!(json::probe(&summary, "goexit")["state"], "trap");
    assert_eq!(json::count(&summary, "ends_here"), 100);
}

//! A redis-server of a test's own, on a socket in a directory of its own, and a client of a few
//! lines. Knows nothing of kptrace.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::support;

/// The words that start a server which keeps to `place`.
pub fn server(program: &Path, place: &Path) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec![program.into(), "--port".into(), "0".into()];
    argv.extend(["--unixsocket".into(), socket(place).into()]);
    argv.extend(["--dir".into(), place.into(), "--save".into(), "".into()]);
    argv
}

pub fn socket(place: &Path) -> PathBuf {
    place.join("socket")
}

/// What a server says when it can be asked.
pub const READY: &str = "eady to accept connections";

/// A connection.
pub struct Client(BufReader<UnixStream>);

impl Client {
    pub fn new(place: &Path) -> Client {
        let stream = UnixStream::connect(socket(place)).expect("the server listens");
        stream
            .set_read_timeout(Some(support::LIMIT))
            .expect("a limit can be set");
        Client(BufReader::new(stream))
    }

    /// Sends a line; what comes back, without its type.
    pub fn ask(&mut self, words: &str) -> String {
        let stream = self.0.get_mut();
        stream
            .write_all(format!("{words}\r\n").as_bytes())
            .expect("the server reads");
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        match kind {
            "$" => {
                let length: usize = rest.parse().unwrap_or_else(|_| panic!("{words}: {line}"));
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes).expect("the server answers");
                bytes.truncate(length);
                String::from_utf8(bytes).expect("text")
            }
            "+" | ":" => rest.to_owned(),
            _ => panic!("{words}: {line}"),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers");
        assert!(line.len() > 2, "the server closed the connection");
        line.trim_end().to_owned()
    }
}

/// `redis-benchmark` to its end; what it found wrong is an error.
pub fn benchmark(program: &Path, place: &Path, requests: u32) -> Result<(), String> {
    let done = support::command(program)
        .arg("-s")
        .arg(socket(place))
        .args(["-q", "-c", "8", "-n", &requests.to_string()])
        .args([
            "-t",
            "ping,set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100,mset",
        ])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    if done.status.success() && !said.to_lowercase().contains("err") {
        Ok(())
    } else {
        Err(format!("redis-benchmark: {}\n{said}", done.status))
    }
}

/// Whether it answers, and right.
pub fn is_right(client: &mut Client) {
    assert_eq!(client.ask("PING"), "PONG");
    assert_eq!(client.ask("SET word value"), "OK");
    assert_eq!(client.ask("GET word"), "value");
    client.ask("DEL sum list scores");
    for n in 1..=200 {
        assert_eq!(client.ask("INCR sum"), n.to_string());
        client.ask(&format!("RPUSH list {n}"));
        client.ask(&format!("ZADD scores {} m{n}", n * 7919 % 211));
    }
    assert_eq!(client.ask("LINDEX list 123"), "124");
    assert_eq!(
        client.ask("ZSCORE scores m100"),
        (100 * 7919 % 211).to_string()
    );
    let script = "\"local s = 0 for i = 1, 1000 do s = s + i end return s\"";
    assert_eq!(client.ask(&format!("EVAL {script} 0")), "500500");
}

//! What bpftrace printed for the programs in `tests/language_reference`, printed again from values
//! that are put together by hand, through the sinks of text and JSON.

use std::fs;
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::testing::*;
use crate::data::{Cell, Datum, MapData, Sink};
use crate::language::typed::StackMode;
use crate::output::{Json, Style, Text};

/// What a program's values are printed to.
type Out<'a> = &'a mut dyn Sink;

fn end(out: Out<'_>, maps: &[MapData]) {
    out.maps_at_end(maps).unwrap();
}

fn printf(out: Out<'_>, format: &str, args: &[Datum]) {
    out.printed(&pieces(format), args).unwrap();
}

fn print(out: Out<'_>, map: &MapData) {
    out.map(map, 0, 0).unwrap();
}

fn value(out: Out<'_>, value: Datum) {
    out.value(&Cell::Value(value)).unwrap();
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/language_reference")
}

fn reference(name: &str, extension: &str) -> String {
    let path = directory().join(format!("{name}.{extension}"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// JSON without spaces outside of strings.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let kept = json.chars().filter(|c| {
        let quote = *c == '"' && !escaped;
        in_string ^= quote;
        escaped = in_string && *c == '\\' && !escaped;
        in_string || *c != ' '
    });
    kept.collect()
}

/// Whether the values are printed as the reference has it, in both formats.
#[track_caller]
fn same(name: &str, program: impl Fn(Out<'_>)) {
    let mut printed = Vec::new();
    let mut sink = Text::new(&mut printed, Style::PLAIN, TimeZone::UTC);
    program(&mut sink);
    sink.flush().unwrap();
    drop(sink);
    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(printed, reference(name, "txt"), "{name}.txt");

    let mut printed = Vec::new();
    let mut sink = Json::new(&mut printed);
    program(&mut sink);
    sink.flush().unwrap();
    drop(sink);
    let printed = String::from_utf8(printed).unwrap();
    let reference = compact(&reference(name, "json"));
    assert_eq!(printed, reference, "{name}.json");
}

#[test]
fn every_program_says_what_it_shows_and_has_both_outputs() {
    let entries = fs::read_dir(directory()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let programs = paths.filter(|path| path.extension().is_some_and(|e| e == "bt"));
    let mut seen = 0;
    for path in programs {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap();
        let program = fs::read_to_string(&path).unwrap();
        assert!(program.starts_with("// "), "{name}");
        assert!(program.contains("./target:"), "{name}");
        assert!(reference(name, "txt").contains("\n"), "{name}");
        for line in reference(name, "json").lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(
                object["type"].is_string() && !object["data"].is_null(),
                "{name}"
            );
        }
        seen += 1;
    }
    assert!(seen >= 90, "{seen} programs");
}

#[test]
fn counts_and_sums() {
    same("count", |out| end(out, &[one("@", counted(10))]));
    same("count_keyed", |out| {
        end(out, &[pairs("@calls", |values| counted(count(&values)))]);
    });
    same("count_order", |out| {
        let parity = [(1, 25), (0, 30)].map(|(key, n)| (int(key), counted(n)));
        let maps = [
            one("@z", counted(10)),
            keyed("@m", parity),
            one("@a", counted(10)),
        ];
        end(out, &maps);
    });
    same("sum_negative", |out| {
        let by = [(1, 21), (2, 41), (10, 100), (-3, -30)];
        let by = by.map(|(key, n)| (int(key), Cell::Number(int(n))));
        end(out, &[one("@total", sum(vec![132])), keyed("@by", by)]);
    });
    same("untouched", |out| {
        let nothing = |name| keyed(name, []);
        let maps = [one("@", counted(10)), nothing("@never"), nothing("@s")];
        end(out, &maps);
    });
}

#[test]
fn least_and_largest() {
    same("min_max", |out| {
        let of = |values: Vec<i64>, pick: fn(std::vec::IntoIter<i64>) -> Option<i64>| {
            Cell::Number(int(pick(values.into_iter()).unwrap()))
        };
        let maps = [
            one("@least", Cell::Number(int(1))),
            one("@most", Cell::Number(int(10))),
            pairs("@min", |values| of(values, Iterator::min)),
            pairs("@max", |values| of(values, Iterator::max)),
        ];
        end(out, &maps);
    });
}

#[test]
fn averages_and_stats() {
    let ten = || (1..=10).collect::<Vec<i64>>();
    same("avg", |out| {
        end(out, &[one("@mean", avg(ten())), pairs("@by", avg)]);
    });
    same("avg_negative", |out| {
        let values = [[-7, 0]; 13].concat();
        end(out, &[one("@", avg(values))]);
    });
    same("stats", |out| {
        end(out, &[one("@all", stats(ten())), pairs("@by", stats)]);
    });
    same("stats_negative", |out| {
        end(out, &[one("@", stats(ten().iter().map(|n| -n).collect()))]);
    });
    same("print_averages", |out| {
        let maps = [
            one("@a", avg(all_pairs())),
            pairs("@ak", avg),
            one("@s", stats(all_pairs())),
            pairs("@sk", stats),
        ];
        for map in &maps {
            print(out, map);
        }
        printf(out, "end\n", &[]);
        end(out, &maps);
    });
}

#[test]
fn histograms() {
    same("hist", |out| end(out, &[one("@h", hist(0, SPREAD))]));
    same("hist_keyed", |out| {
        end(out, &[pairs("@h", |values| hist(0, values))]);
    });
    same("hist_units", |out| {
        end(out, &[one("@", hist(0, (1..=10).map(|n| 1 << (n * 4))))]);
    });
    same("hist_bits", |out| {
        end(out, &[one("@", hist(2, SPREAD.map(|n| n & 31)))]);
    });
    let linear = |name, map: &str, cell: &dyn Fn() -> Cell| {
        same(name, |out| end(out, &[one(map, cell())]));
    };
    linear("lhist", "@l", &|| lhist(0, 10, 2, SPREAD));
    linear("lhist_above", "@", &|| {
        lhist(0, 100, 10, SPREAD.into_iter().filter(|n| *n > 1000))
    });
    linear("lhist_raw", "@", &|| lhist(0, 2000, 500, SPREAD));
    linear("lhist_units", "@", &|| lhist(0, 4096, 1024, SPREAD));
    linear("lhist_ones", "@", &|| lhist(2, 8, 1, 1..=10));
    same("lhist_keyed", |out| {
        end(out, &[pairs("@l", |values| lhist(5, 50, 15, values))]);
    });
}

#[test]
fn plain_values() {
    same("plain_integer", |out| {
        let maps = [("@last", 10), ("@minus", -10), ("@sum", 55), ("@steps", 10)];
        end(out, &maps.map(|(name, n)| one(name, plain(int(n)))));
    });
    same("plain_keyed", |out| {
        let map = pairs("@", |values| plain(int(100 - values.last().unwrap())));
        end(out, &[map]);
    });
    same("plain_string", |out| {
        let strings = [
            (2, "also two"),
            (1, "one"),
            (10, "ten"),
            (-3, "minus three"),
        ];
        let strings = strings.map(|(key, s)| (int(key), plain(text(s))));
        end(
            out,
            &[keyed("@s", strings), one("@last", plain(text("one")))],
        );
    });
    same("plain_tuple", |out| {
        let tuple = |n, s| plain(Datum::Tuple(vec![uint(n), text(s)]));
        let inner = Datum::Tuple(vec![int(2), text("three")]);
        let tuples = [
            (int(10), tuple(200, "ten")),
            (int(2), tuple(121, "also two")),
            (int(-3), tuple(70, "minus three")),
            (int(1), tuple(111, "one")),
        ];
        let maps = [
            keyed("@t", tuples),
            one("@one", plain(Datum::Tuple(vec![int(1), inner]))),
        ];
        end(out, &maps);
    });
    same("plain_pointer", |out| {
        end(out, &[one("@p", plain(Datum::Pointer(10)))]);
    });
    same("large_integers", |out| {
        let most = i64::MAX.cast_unsigned();
        let values = [(0, most + 1), (1, most)].map(|(key, n)| (int(key), plain(uint(n))));
        let tuple = Datum::Tuple(vec![uint(most), int(1)]);
        end(out, &[keyed("@", values), one("@t", plain(tuple))]);
    });
}

#[test]
fn keys() {
    same("keys_string", |out| {
        let entries = [(0, 5), (1, 3), (3, 4), (5, 6), (6, 7)];
        let entries = entries.map(|(at, n)| (Datum::Str(TEXTS[at].to_vec()), plain(int(n))));
        end(out, &[keyed("@", entries), one("@n", plain(int(7)))]);
    });
    let two = || {
        let entries = [
            (2, "also two", 21),
            (10, "ten", 100),
            (1, "one", 11),
            (-3, "minus three", -30),
            (2, "two", 20),
        ];
        let entries = entries.map(|(n, s, v)| (vec![int(n), text(s)], plain(int(v))));
        MapData {
            name: "@".to_owned(),
            entries: entries.to_vec(),
        }
    };
    same("keys_two", |out| end(out, &[two()]));
    same("keys_tuple", |out| end(out, &[two()]));
    same("keys_three", |out| {
        let entries = [
            (2, 2, "two"),
            (1, 10, "ten"),
            (2, 1, "one"),
            (0, 2, "also two"),
            (1, -3, "minus three"),
            (1, 1, "one"),
        ];
        let key = |b, c| vec![text("k"), uint(b), int(c)];
        let entries = entries.map(|(b, c, s)| (key(b, c), plain(text(s))));
        let map = MapData {
            name: "@".to_owned(),
            entries: entries.to_vec(),
        };
        end(out, &[map]);
    });
    same("keys_negative", |out| {
        let values = SPREAD.map(|n| (int(n), plain(int(n))));
        let minus = (1..=10).map(|n| (int(-n), plain(uint(n.cast_unsigned()))));
        end(out, &[keyed("@minus", minus), keyed("@", values)]);
    });
    same("stack_key", |out| {
        let stack = || Datum::Stack(StackMode::Bpftrace, vec!["inner+0".to_owned()]);
        print(out, &keyed("@", [(stack(), counted(3))]));
        let entries = [20, 30, 10].map(|n| (vec![stack(), int(n)], Cell::Number(int(n))));
        let map = MapData {
            name: "@n".to_owned(),
            entries: entries.to_vec(),
        };
        print(out, &map);
        end(out, &[keyed("@", [])]);
    });
}

#[test]
fn maps_are_printed() {
    same("print_map", |out| {
        let maps = [
            ("sum", pairs("@by", sum)),
            ("count", one("@n", counted(30))),
            ("hist", one("@h", hist(0, all_pairs()))),
            ("hist by key", pairs("@hk", |values| hist(0, values))),
            ("lhist", one("@l", lhist(0, 60, 20, all_pairs()))),
            ("value", one("@v", plain(int(64)))),
        ];
        for (title, map) in &maps {
            printf(out, &format!("{title}\n"), &[]);
            print(out, map);
        }
        printf(out, "end\n", &[]);
        end(out, &maps.map(|(_, map)| map)[1..]);
    });
    same("print_top", |out| {
        let map = pairs("@", sum);
        out.map(&map, 2, 0).unwrap();
        printf(out, "all\n", &[]);
        out.map(&map, 9, 0).unwrap();
        printf(out, "none cut\n", &[]);
        print(out, &map);
        end(out, &[]);
    });
    same("print_div", |out| {
        let maps = [
            pairs("@", sum),
            one("@n", counted(30)),
            pairs("@a", avg),
            one("@x", Cell::Number(int(64))),
            one("@v", plain(uint(64))),
        ];
        let [by, n, a, x, v] = &maps;
        let prints = [
            (by, 0, 10),
            (by, 2, 10),
            (n, 0, 4),
            (a, 2, 3),
            (x, 0, 7),
            (v, 0, 7),
        ];
        for (map, top, div) in prints {
            out.map(map, top, div).unwrap();
        }
        end(out, &maps);
    });
    same("print_div_strings", |out| {
        let entries = [
            (1, "one"),
            (-3, "minus three"),
            (10, "ten"),
            (2, "also two"),
        ];
        let entries = entries.map(|(key, s)| (int(key), plain(text(s))));
        out.map(&keyed("@", entries), 2, 10).unwrap();
        end(out, &[]);
    });
    same("print_top_hist", |out| {
        out.map(&pairs("@", |values| hist(0, values)), 2, 0)
            .unwrap();
        printf(out, "end\n", &[]);
        end(out, &[]);
    });
    same("print_div_hist", |out| {
        out.map(&one("@", hist(0, all_pairs())), 0, 4).unwrap();
        printf(out, "end\n", &[]);
        end(out, &[]);
    });
    same("print_top_stats", |out| {
        let map = pairs("@s", stats);
        out.map(&map, 2, 10).unwrap();
        printf(out, "end\n", &[]);
        end(out, &[map]);
    });
    same("zero", |out| {
        end(out, &[pairs("@", |_| counted(0)), one("@n", sum(vec![]))]);
    });
}

#[test]
fn values_are_printed() {
    same("print_values", |out| {
        value(out, int(5));
        value(out, int(-5));
        value(out, text("text"));
        let inner = Datum::Tuple(vec![int(3), int(-4)]);
        value(out, Datum::Tuple(vec![int(1), text("two"), inner]));
        value(out, text("target"));
        value(out, Datum::Text("last".to_owned()));
        end(out, &[]);
    });
    same("print_text", |out| {
        for s in TEXTS {
            value(out, Datum::Str(s.to_vec()));
            value(out, Datum::Tuple(vec![int(1), Datum::Str(s.to_vec())]));
        }
        end(out, &[]);
    });
    same("print_entry", |out| {
        value(out, int(27));
        value(out, text("text"));
        value(out, int(0));
        end(out, &[]);
    });
    same("buf_print", |out| {
        value(out, Datum::Buf(b"abc".to_vec()));
        value(out, Datum::Buf(b"\x01\x7f\xff".to_vec()));
        end(out, &[one("@", plain(Datum::Buf(b"\x01\x7f".to_vec())))]);
    });
    same("stack", |out| {
        let stack = Datum::Stack(StackMode::Bpftrace, vec!["inner+0".to_owned()]);
        printf(out, "stack:%s.\n", std::slice::from_ref(&stack));
        value(out, stack);
        end(out, &[]);
    });
    same("join", |out| {
        let parts = ["ls", "-l", "/tmp"].map(|part| part.as_bytes().to_vec());
        for separator in [" ", ",", "\t"] {
            out.join(&parts, separator).unwrap();
        }
        end(out, &[]);
    });
    same("time", |out| {
        out.time("now\n").unwrap();
        out.time("%H\n").unwrap();
        end(out, &[]);
    });
}

#[test]
fn formats() {
    same("printf_integers", |out| {
        let seven = |times: usize| vec![uint(7); times];
        printf(out, "[%d] [%5d] [%-5d] [%05d]\n", &seven(4));
        let args = [63, 63, 203, 203, 63].map(uint);
        printf(out, "[%d] [%u] [%x] [%X] [%o]\n", &args);
        printf(out, "[%d] [%5d] [%-5d]\n", &[-7, -7, -7].map(int));
        printf(out, "[%lx] [%lld] [%llu] [%ld]\n", &seven(4));
        printf(out, "[%8lx] [%-8lx] [%08lx]\n", &[203; 3].map(uint));
        end(out, &[]);
    });
    same("printf_long", |out| {
        for n in [1 << 33, -1, -7_i64] {
            printf(out, "%ld %d\n", &[n; 2].map(|n| uint(n.cast_unsigned())));
        }
        for n in [i64::MIN, i64::MAX] {
            printf(
                out,
                "%ld %lu %lx\n",
                &[n; 3].map(|n| uint(n.cast_unsigned())),
            );
        }
        end(out, &[]);
    });
    same("printf_sizes", |out| {
        for (a, b, e, f) in [(-128, -32768, 255, 65535), (127, 32767, 0, 0)] {
            printf(out, "%hhd %hhu %hhx\n", &[a, e, a].map(int));
            printf(out, "%hd %hu %hx\n", &[b, f, b].map(int));
        }
        end(out, &[]);
    });
    same("printf_char", |out| {
        for n in 65..75 {
            printf(out, "%c", &[uint(n)]);
        }
        printf(out, "\n[%3c] [%-3c]\n", &[int(65), int(66)]);
        end(out, &[]);
    });
    same("printf_pointer", |out| {
        let args = [7 * 4096, 7, 7, 7 << 40].map(uint);
        printf(out, "%p [%8p] [%-8p] %p\n", &args);
        end(out, &[]);
    });
    same("printf_null", |out| {
        printf(out, "%p\n", &[int(0)]);
        end(out, &[]);
    });
    same("printf_string", |out| {
        for s in ["two", "one", "also two", "ten", "minus three", "one"] {
            let args = vec![text(s); 5];
            printf(out, "[%s] [%10s] [%-10s] [%.2s] [%8.3s]\n", &args);
        }
        end(out, &[]);
    });
    same("printf_names", |out| {
        let (comm, last) = (text("target"), Datum::Text("last".to_owned()));
        let args = [comm, last.clone(), last];
        printf(out, "%s %s %s\n", &args);
        printf(out, "[%10s] [%-10s]\n", &args);
        end(out, &[]);
    });
    same("printf_percent", |out| {
        printf(out, "100%%\n", &[]);
        printf(out, "%%d %d%% \n", &[int(5)]);
        end(out, &[]);
    });
    same("printf_escapes", |out| {
        printf(out, "tab\tquote\"backslash\\AA\n", &[]);
        printf(out, "no newline", &[]);
        printf(out, "\n", &[]);
        end(out, &[]);
    });
    same("buf", |out| {
        let bytes: [&[u8]; 2] = [b"abc", b"\x01\x7f\xff\"\\ ~"];
        let bytes = bytes.map(|bytes| Datum::Buf(bytes.to_vec()));
        for buffer in &bytes {
            printf(out, "%r\n", std::slice::from_ref(buffer));
        }
        let [three, seven] = bytes;
        let entries = [(int(7), plain(seven)), (int(3), plain(three))];
        end(out, &[keyed("@b", entries)]);
    });
    same("escapes_json", |out| {
        let cut = TEXTS.map(|s| Datum::Str(s.get(..16).unwrap_or(s).to_vec()));
        // A null pointer is not shown there.
        let shown = [0, 1, 3, 4, 5, 6].map(|at| cut[at].clone());
        for s in &shown {
            printf(out, "\"%s\"\t\\\n", std::slice::from_ref(s));
        }
        let kept = [5, 1, 3, 0, 6].map(|at| cut[at].clone());
        end(out, &[keyed("@", kept.map(|s| (s.clone(), plain(s))))]);
    });
}

//! Texts like programs of the probe language: pieces of programs put together, along their brackets
//! and statements more often than across. Knows the look of the language, not its grammar. Whatever
//! came to something new is kept and built on.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::support::Rng;

/// Longest text that is made, in words.
const LONGEST: usize = 600;
/// Most texts that are kept.
const MOST: usize = 20_000;

type Word = u32;

/// Words, texts made of them, and what they have shown so far.
pub struct Corpus {
    words: Vec<Box<str>>,
    numbers: HashMap<Box<str>, Word>,
    texts: Vec<Vec<Word>>,
    /// Words and pieces of `tests/fuzz/language.dict`.
    dictionary: Vec<Vec<Word>>,
    seen: HashSet<u64>,
    /// How many texts are from files.
    given: usize,
}

/// The text cut into words, strings, spaces and single characters.
fn cut(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let len = match first {
            '"' => {
                let end = rest.get(1..).and_then(|inside| inside.find('"'));
                end.map_or(1, |at| at + 2)
            }
            '@' | '$' => {
                let name = rest.get(1..).unwrap_or_default();
                1 + name.find(|c| !is_word(c)).unwrap_or(name.len())
            }
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c if c.is_whitespace() => rest
                .find(|c: char| !c.is_whitespace())
                .unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (word, after) = rest.split_at(len);
        all.push(word);
        rest = after;
    }
    all
}

/// What a line of the dictionary stands for.
fn unescaped(line: &str) -> Option<String> {
    let line = line.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Where each bracket of a text is closed, in pairs.
fn groups(text: &[Word], words: &[Box<str>]) -> Vec<(usize, usize)> {
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut pairs = Vec::new();
    for (at, word) in text.iter().enumerate() {
        match &*words[*word as usize] {
            "(" => open.push((at, ')')),
            "[" => open.push((at, ']')),
            "{" => open.push((at, '}')),
            other => {
                if let Some(&(from, end)) = open.last()
                    && other.len() == 1
                    && other.starts_with(end)
                {
                    open.pop();
                    pairs.push((from, at));
                }
            }
        }
    }
    pairs
}

impl Corpus {
    /// Every program of the tests, and those that are ready.
    pub fn new() -> Corpus {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut corpus = Corpus {
            words: Vec::new(),
            numbers: HashMap::new(),
            texts: Vec::new(),
            dictionary: Vec::new(),
            seen: HashSet::new(),
            given: 0,
        };
        for folder in [
            "tests/language/malformed",
            "tests/language/wellformed",
            "tests/language/bpftrace",
            "tests/language/bpftrace-0.17",
            "tests/language_reference",
            "probes",
        ] {
            let files = std::fs::read_dir(root.join(folder)).unwrap();
            let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            files.sort();
            for file in files {
                if file.extension().is_some_and(|e| e == "bt") {
                    let text = std::fs::read_to_string(file).unwrap();
                    let text = corpus.numbers(&text);
                    corpus.texts.push(text);
                }
            }
        }
        corpus.given = corpus.texts.len();
        let words = std::fs::read_to_string(root.join("tests/fuzz/language.dict")).unwrap();
        for line in words.lines().filter(|line| !line.starts_with('#')) {
            let piece = unescaped(line).unwrap_or_else(|| panic!("{line}"));
            let piece = corpus.numbers(&piece);
            corpus.dictionary.push(piece);
        }
        corpus
    }

    /// How many texts were given, and how many are kept now.
    pub fn sizes(&self) -> (usize, usize) {
        (self.given, self.texts.len())
    }

    fn number(&mut self, word: &str) -> Word {
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = u32::try_from(self.words.len()).unwrap();
        self.words.push(word.into());
        self.numbers.insert(word.into(), number);
        number
    }

    fn numbers(&mut self, text: &str) -> Vec<Word> {
        cut(text)
            .into_iter()
            .map(|word| self.number(word))
            .collect()
    }

    /// Keeps a text that has shown something new.
    pub fn learn(&mut self, text: &str, seen: HashSet<u64>) {
        let before = self.seen.len();
        self.seen.extend(seen);
        if self.seen.len() > before && self.texts.len() < MOST {
            let text = self.numbers(text);
            self.texts.push(text);
        }
    }

    /// One of the texts: as often one of those given as one of those found.
    fn text(&self, rng: &mut Rng) -> &[Word] {
        let among = match rng.below(2) {
            0 => self.given,
            _ => self.texts.len(),
        };
        &self.texts[rng.below(among)]
    }

    /// A piece of some text: words in a row.
    fn run(&self, rng: &mut Rng, most: usize) -> &[Word] {
        let text = self.text(rng);
        let from = rng.below(text.len() + 1);
        let len = rng.below(most + 1).min(text.len() - from);
        &text[from..from + len]
    }

    /// The places behind which a statement or a block may stand.
    fn seams(&self, text: &[Word]) -> Vec<usize> {
        let seam = |word: &Word| matches!(&*self.words[*word as usize], ";" | "{" | "}");
        let seams = text.iter().enumerate().filter(|(_, word)| seam(word));
        seams.map(|(at, _)| at + 1).collect()
    }

    /// What stands between two neighbouring seams.
    fn statement(&self, rng: &mut Rng, text: &[Word]) -> Option<(usize, usize)> {
        let seams = self.seams(text);
        let at = rng.below(seams.len().checked_sub(1)?.max(1));
        Some((*seams.get(at)?, *seams.get(at + 1)?))
    }

    /// Something in brackets, with them.
    fn group(&self, rng: &mut Rng, text: &[Word]) -> Option<(usize, usize)> {
        let groups = groups(text, &self.words);
        let (from, end) = *groups.get(rng.below(groups.len().max(1)))?;
        Some((from, end + 1))
    }

    /// One change.
    fn change(&mut self, rng: &mut Rng, text: &mut Vec<Word>) {
        let at = rng.below(text.len() + 1);
        let gone = rng.below(4).min(text.len() - at);
        match rng.below(14) {
            0 => {
                let piece = self.run(rng, 8).to_vec();
                text.splice(at..at + gone, piece);
            }
            1 => {
                text.drain(at..at + gone);
            }
            2 => {
                let len = rng.below(9).min(text.len() - at);
                let piece = text[at..at + len].to_vec();
                let to = rng.below(text.len() + 1);
                text.splice(to..to, piece);
            }
            3 | 4 => {
                let piece = &self.dictionary[rng.below(self.dictionary.len())];
                let gone = gone.min(rng.below(2));
                text.splice(at..at + gone, piece.iter().copied());
            }
            5 | 6 => {
                // A group for another with the same bracket.
                let other = self.text(rng);
                let (Some(mine), Some(its)) = (self.group(rng, text), self.group(rng, other))
                else {
                    return;
                };
                let piece = other[its.0..its.1].to_vec();
                if text[mine.0] == piece[0] || rng.below(8) == 0 {
                    text.splice(mine.0..mine.1, piece);
                }
            }
            7 | 8 => {
                let other = self.text(rng);
                let (Some(mine), Some(its)) =
                    (self.statement(rng, text), self.statement(rng, other))
                else {
                    return;
                };
                let from = match rng.below(2) {
                    0 => mine.0,
                    _ => mine.1,
                };
                let piece = other[its.0..its.1].to_vec();
                text.splice(from..mine.1, piece);
            }
            9 => {
                // A word for another of its kind.
                let Some(word) = text.get(at) else { return };
                let kind =
                    |word: Word| self.words[word as usize].as_bytes()[0].is_ascii_alphanumeric();
                let other = self.run(rng, 30);
                let other = other.iter().find(|other| kind(**other) == kind(*word));
                if let Some(other) = other.copied() {
                    text[at] = other;
                }
            }
            10 => self.nest(rng, text),
            11 => {
                let piece = self.text(rng).to_vec();
                let at = [0, text.len()][rng.below(2)];
                text.splice(at..at, piece);
            }
            12 => text.truncate(at),
            _ => {
                // Everything in a group but the brackets.
                if let Some((from, end)) = self.group(rng, text) {
                    text.drain(from + 1..end - 1);
                }
            }
        }
    }

    /// Something again and again, around a group or in a row.
    fn nest(&mut self, rng: &mut Rng, text: &mut Vec<Word>) {
        const AROUND: [(&str, &str); 12] = [
            ("(", ")"),
            ("-", ""),
            ("!", ""),
            ("*", ""),
            ("1+", ""),
            ("(1,", ")"),
            ("@a[", "]"),
            ("{if(1){", "}}"),
            ("1?", ":2"),
            ("(uint8)", ""),
            ("{unroll(9){", "}}"),
            ("str(", ")"),
        ];
        let times = match rng.below(16) {
            0 => 300,
            _ => 1 + rng.below(4),
        };
        let Some((from, end)) = self.group(rng, text) else {
            return;
        };
        let (before, after) = AROUND[rng.below(AROUND.len())];
        let (before, after) = (self.numbers(before), self.numbers(after));
        text.splice(end..end, after.repeat(times));
        text.splice(from..from, before.repeat(times));
    }

    /// A new text.
    pub fn make(&mut self, rng: &mut Rng) -> String {
        let mut text = self.text(rng).to_vec();
        for _ in 0..1 + rng.below(5) {
            self.change(rng, &mut text);
        }
        text.truncate(LONGEST);
        let mut made: String = text
            .iter()
            .map(|word| &*self.words[*word as usize])
            .collect();
        if rng.below(8) == 0 {
            // Characters, and not only those of the language.
            let boundaries: Vec<usize> = made.char_indices().map(|(at, _)| at).collect();
            if let Some(&at) = boundaries.get(rng.below(boundaries.len().max(1))) {
                let printable = char::from(b' ' + rng.next() as u8 % 95);
                let any =
                    char::from_u32((rng.next() as u32) >> rng.below(25)).unwrap_or('\u{fffd}');
                match rng.below(4) {
                    0 => made.insert(at, any),
                    1 => made.insert(at, printable),
                    2 => made.truncate(at),
                    _ => {
                        made.remove(at);
                    }
                }
            }
        }
        made
    }
}

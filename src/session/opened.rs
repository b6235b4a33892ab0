//! A file with code: its image, symbols and verdicts, each made when first needed, and shared by all
//! processes that map it. Knows no addresses of processes.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::analysis::{Cache, File, Key, Source, Text};
use crate::arch::native::scan::returning_twice;
use crate::base::LinkAddr;
use crate::symbols::{self, CodeFacts, Frames, Image, Note, Stamp, Symbols};

/// No function written by hand is so long.
const HOLE: u64 = 64 << 10;

/// A file and what was found in it.
pub struct Opened {
    path: PathBuf,
    root: PathBuf,
    image: Image,
    debug: OnceCell<Option<Image>>,
    symbols: OnceCell<Symbols>,
    facts: OnceCell<CodeFacts>,
    frames: OnceCell<Frames>,
    framed: OnceCell<bool>,
    hole: OnceCell<Option<(LinkAddr, u64)>>,
    twice: OnceCell<BTreeSet<u64>>,
    file: OnceCell<File>,
    notes: OnceCell<Vec<Note>>,
}

impl Opened {
    /// Reads a file, which is `path` in the file system that `root` begins.
    pub(super) fn read(from: &Path, path: &Path, root: PathBuf) -> anyhow::Result<Opened> {
        Ok(Opened {
            path: path.to_owned(),
            root,
            image: Image::read(from)?,
            debug: OnceCell::new(),
            symbols: OnceCell::new(),
            facts: OnceCell::new(),
            frames: OnceCell::new(),
            framed: OnceCell::new(),
            hole: OnceCell::new(),
            twice: OnceCell::new(),
            file: OnceCell::new(),
            notes: OnceCell::new(),
        })
    }

    /// The file's image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Its separate debug file, if there is one.
    pub fn debug(&self) -> Option<&Image> {
        let find = || symbols::debug_file(&self.image, &self.root, &self.path);
        self.debug.get_or_init(find).as_ref()
    }

    /// Whether its functions keep frame pointers.
    pub(super) fn keeps_frame_pointers(&self) -> bool {
        let look = || symbols::keeps_frame_pointers(&self.image);
        *self.framed.get_or_init(look)
    }

    /// Its symbols.
    pub fn symbols(&self) -> &Symbols {
        self.symbols
            .get_or_init(|| Symbols::load(&self.image, self.debug()).unwrap_or_default())
    }

    /// Its USDT probes.
    pub fn notes(&self) -> &[Note] {
        self.notes
            .get_or_init(|| symbols::usdt_notes(&self.image, self.debug()))
    }

    fn facts(&self) -> &CodeFacts {
        self.facts
            .get_or_init(|| symbols::code_facts(&self.image, self.symbols()).unwrap_or_default())
    }

    /// Its unwind entries.
    pub(super) fn frames(&self) -> &Frames {
        self.frames.get_or_init(|| Frames::of(&self.image))
    }

    /// The largest piece of its text without unwind information, where that is so large that it must be
    /// code that some compiler at run time could have made.
    pub(super) fn unwound_hole(&self) -> Option<(LinkAddr, u64)> {
        *self.hole.get_or_init(|| {
            let text = self.image.section(".text")?;
            let (start, end) = (text.at.0, text.at.0.checked_add(text.size)?);
            let mut covered = start;
            let mut largest = (start, 0);
            let frames = self.frames().list.iter();
            let spans =
                frames.map(|frame| (frame.start.0, frame.start.0.saturating_add(frame.len)));
            for (from, to) in spans.chain([(end, end)]) {
                let (from, to) = (from.clamp(start, end), to.clamp(start, end));
                if from.saturating_sub(covered) > largest.1 {
                    largest = (covered, from - covered);
                }
                covered = covered.max(to);
            }
            (largest.1 >= HOLE).then_some((LinkAddr(largest.0), largest.1))
        })
    }

    /// Whether the function at `at` returns more often than it is called.
    pub(super) fn returns_twice(&self, at: LinkAddr) -> bool {
        let find = || {
            let functions = self.frames().list.iter();
            let functions: Vec<_> = functions.map(|frame| (frame.start.0, frame.len)).collect();
            let text = self.image.segments().iter().filter(|s| s.executable);
            let texts = text.filter_map(|s| Some((s.vaddr.0, self.image.bytes_from(s.vaddr)?)));
            texts
                .flat_map(|(at, bytes)| returning_twice(bytes, at, &functions))
                .collect()
        };
        self.twice.get_or_init(find).contains(&at.0)
    }

    /// The verdicts of its entries, from the cache when they are there.
    pub fn file(&self, cache: Option<&Cache>) -> &File {
        self.file.get_or_init(|| {
            let key = Key::of(&self.image, self.debug());
            let known = cache
                .zip(key.as_ref())
                .and_then(|(cache, key)| cache.load(key));
            known.unwrap_or_else(|| {
                let file = self.with_text(|text| File::of_symbols(text, self.symbols()));
                if let (Some(cache), Some(key)) = (cache, &key) {
                    // A cache that cannot be written costs time at the next start, nothing else.
                    let _ = cache.store(key, &file);
                }
                file
            })
        })
    }

    /// Asks about any address; sweeps the whole file.
    pub fn with_text<T>(&self, ask: impl FnOnce(&Text<'_>) -> T) -> T {
        ask(&Source::new(&self.image, self.facts()).text())
    }
}

/// Files that were read, by what they are: a program that is run a hundred times, and the libraries
/// of all, are looked at once.
#[derive(Default)]
pub struct Library {
    files: RefCell<HashMap<(Stamp, PathBuf), Rc<Opened>>>,
}

impl Library {
    /// The file behind `from`, read now or before.
    pub(super) fn open(
        &self,
        from: &Path,
        path: &Path,
        root: PathBuf,
    ) -> anyhow::Result<Rc<Opened>> {
        // Debug files are looked for beside it, so its path belongs to what it is.
        let key = symbols::stamp(from).map(|stamp| (stamp, path.to_owned()));
        if let Some(known) = key
            .as_ref()
            .and_then(|key| self.files.borrow().get(key).cloned())
        {
            return Ok(known);
        }
        let opened = Rc::new(Opened::read(from, path, root)?);
        // It may have been replaced between the two looks; then nobody else may rely on it.
        if let Some(key) = key.filter(|key| key.0 == opened.image().stamp()) {
            self.files.borrow_mut().insert(key, Rc::clone(&opened));
        }
        Ok(opened)
    }
}

//! Any bytes as a stored analysis.

use std::fs;
use std::path::Path;

use kptrace::analysis::{Cache, File, Key};
use kptrace::symbols::Image;

/// A cache that holds one analysis, of which the bytes can be changed.
pub struct Stored {
    cache: Cache,
    key: Key,
    path: std::path::PathBuf,
    /// The sound bytes.
    pub sound: Vec<u8>,
}

impl Stored {
    pub fn new(directory: &Path, file: &File) -> Stored {
        let image = Image::read(Path::new("/proc/self/exe")).unwrap();
        let key = Key {
            build_id: vec![7; 20],
            file_size: 4711,
            debug_id: Vec::new(),
            stamp: image.stamp(),
        };
        let directory = directory.join("cache");
        let cache = Cache::open(&directory).unwrap();
        cache.store(&key, file).unwrap();
        let mut found = fs::read_dir(&directory).unwrap();
        let path = found.next().unwrap().unwrap().path();
        assert_eq!(cache.load(&key).as_ref(), Some(file));
        let sound = fs::read(&path).unwrap();
        Stored {
            cache,
            key,
            path,
            sound,
        }
    }

    /// Loads these bytes, whose last eight are replaced by the sum of the others. What is taken for
    /// an analysis is one: it can be stored and comes back.
    pub fn load(&self, bytes: &[u8]) -> bool {
        let body = &bytes[..bytes.len().saturating_sub(8)];
        let mut all = body.to_vec();
        all.extend(sum(body).to_le_bytes());
        fs::write(&self.path, &all).unwrap();
        let Some(file) = self.cache.load(&self.key) else {
            return false;
        };
        self.cache.store(&self.key, &file).unwrap();
        assert_eq!(self.cache.load(&self.key), Some(file));
        true
    }
}

/// As the format has it, so that damage reaches what is behind the sum.
fn sum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| {
        (sum ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    let mut words = bytes.chunks_exact(8);
    let mut sum = bytes.len() as u64;
    for word in &mut words {
        sum = mix(sum, u64::from_le_bytes(word.try_into().unwrap()));
    }
    words
        .remainder()
        .iter()
        .fold(sum, |sum, &byte| mix(sum, byte.into()))
}

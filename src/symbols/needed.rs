//! Libraries that a file asks for. Does not know where they are.

use super::bytes::string_at;
use super::elf::Image;
use crate::base::LinkAddr;

const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// Most names of one file.
const MOST: usize = 1000;

impl Image {
    /// `DT_NEEDED`, in order.
    pub fn needed(&self) -> Vec<String> {
        self.dynamic_strings(&[DT_NEEDED])
    }

    /// Directories of `DT_RPATH` and `DT_RUNPATH`, `$ORIGIN` left as it is.
    pub fn search_path(&self) -> Vec<String> {
        let lists = self.dynamic_strings(&[DT_RPATH, DT_RUNPATH]);
        let all = lists.iter().flat_map(|list| list.split(':'));
        let all = all.filter(|directory| !directory.is_empty());
        all.take(MOST).map(str::to_owned).collect()
    }

    fn dynamic_strings(&self, tags: &[u64]) -> Vec<String> {
        let Some(strings) = self.dynamic(DT_STRTAB) else {
            return Vec::new();
        };
        let wanted = self.dynamic.iter().filter(|(tag, _)| tags.contains(tag));
        let text = |&(_, offset): &(u64, u64)| {
            let at = LinkAddr(strings.checked_add(offset)?);
            let bytes = string_at(self.bytes_from(at)?, 0)?;
            // A path; longer ones name no file.
            let bytes = bytes.get(..4096).unwrap_or(bytes);
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        wanted.take(MOST).filter_map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::cc;

    #[test]
    fn libraries_and_directories_are_seen() {
        let flags = ["-Wl,-rpath,/opt/a:$ORIGIN/b", "-lm", "-Wl,--no-as-needed"];
        let Some(built) = cc("int main() { return 0; }", &flags) else {
            return;
        };
        let image = built.image();
        assert_eq!(image.search_path(), ["/opt/a", "$ORIGIN/b"]);
        let needed = image.needed();
        assert!(needed.iter().any(|n| n.starts_with("libc.")), "{needed:?}");
    }
}

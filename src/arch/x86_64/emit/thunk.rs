//! Thunks: each calls the body of a function whose return is probed, and goes on in the site's exit
//! code with its activation's address in `rax`, which is saved where a signal leaves it alone. All
//! thunks of a process are the same bytes: they find their words by their own address.

use crate::abi::{self, Activations};

/// The bytes of so many thunks.
pub fn thunks(activations: &Activations, count: usize) -> Vec<u8> {
    let to_words = |at: i32, from: i32| (activations.distance() + at - from).to_le_bytes();
    let word = |offset: u32| offset.cast_signed();
    let mut thunk = Vec::new();
    // call [words + ACT_BODY]
    thunk.extend([0xff, 0x15]);
    thunk.extend(to_words(word(abi::ACT_BODY), word(abi::RETURN_POINT)));
    // lea rsp, [rsp - 136]: below the slot of the return address, and the red zone of whoever had
    // one there.
    thunk.extend([0x48, 0x8d, 0xa4, 0x24]);
    thunk.extend((-136_i32).to_le_bytes());
    // push rax
    thunk.push(0x50);
    // lea rax, [words]
    thunk.extend([0x48, 0x8d, 0x05]);
    thunk.extend(to_words(0, 22));
    // jmp [rax + ACT_EXIT]
    thunk.extend([0xff, 0x60, abi::ACT_EXIT as u8]);
    thunk.resize(abi::ACTIVATION as usize, 0xcc);
    thunk.repeat(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::emit::listing;

    #[test]
    fn a_thunk_calls_by_its_words_and_leaves_by_them() {
        let activations = Activations {
            thunks: 0x1000_0000,
            words: 0x2000_0000,
            pools: 1,
            pool_size: 1 << 12,
            unwind: 0,
        };
        let code = thunks(&activations, 2);
        let second = listing(&code[64..], 0x1000_0040);
        let text: Vec<&str> = second
            .iter()
            .map(|(_, text)| text.as_str())
            .take(5)
            .collect();
        assert_eq!(
            text,
            [
                "call qword ptr [20000050h]",
                "lea rsp,[rsp-88h]",
                "push rax",
                "lea rax,[20000040h]",
                "jmp qword ptr [rax+18h]"
            ]
        );
        assert_eq!(second[1].0 - second[0].0, u64::from(abi::RETURN_POINT));
    }
}

//! Activations: calls of functions whose returns are probed, that have not returned. Each has a *thunk*,
//! code that calls the function's body in place of the caller, so that the return address on the stack
//! names the activation; its words hold the real one.
//!
//! Thunks and words lie low, in two spans of *pools*, one pool for each thread that has a block; a
//! thunk and its words have the same offset in theirs. A pool starts with a word that says where a free
//! activation may be, and ends with one that is never free. The words are private memory of the
//! process: a forked child returns through its own copy.

use crate::base::{Addr, Span};

/// Bytes of an activation's words, and of its thunk.
pub const ACTIVATION: u32 = 64;
/// 0 while the activation is free. Taken by the pool's owner, who subtracts 1 in one instruction, and
/// has it if that borrows; freed by one store of 0 by whoever returns.
pub const ACT_TAKEN: u32 = 0;
/// The real return address. It stays until the activation is taken again.
pub const ACT_RETURN: u32 = 8;
/// What the thunk calls: the copy of the displaced instructions.
pub const ACT_BODY: u32 = 16;
/// Where the thunk goes on: the site's exit code.
pub const ACT_EXIT: u32 = 24;
/// Time stamp counter at the entry; 0 when none was taken.
pub const ACT_TIME: u32 = 32;
/// Where the return address stood; 0 once an unwinder took the frame.
pub const ACT_SLOT: u32 = 40;
/// In a pool's first words: where a free activation may be.
pub const POOL_NEXT: u32 = 0;
/// In a pool's first words: an activation whose frame an unwinder took last; it is freed when the next is.
pub const POOL_ENDED: u32 = 8;
/// Bytes that unwind information for one unwinder takes.
pub const UNWIND_SLOT: u32 = 512;
/// How many unwinders of a process can be told.
pub const UNWIND_SLOTS: u32 = 8;
/// From the thunk's start to the address that its call leaves on the stack.
pub const RETURN_POINT: u32 = 6;

/// Where [`Activations::mark`] writes, from the start of the thunks.
const MARK: u64 = 24;
const _: () = assert!(MARK + 24 <= super::CODE_HEAD);

/// The exit code is told by these bits of the activation's address why it is entered: the function
/// returned (none), it ended in a call of another probed function that returns in its place, or an
/// unwinder took its frame.
pub const END_TAIL: u32 = 1;
/// See [`END_TAIL`].
pub const END_UNWOUND: u32 = 2;

/// Where the pools of a process lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activations {
    /// Thunks of the first pool.
    pub thunks: u32,
    /// Words of the first pool, at a multiple of [`Activations::pool_size`].
    pub words: u32,
    /// How many pools there are.
    pub pools: u32,
    /// Bytes of a pool in each of both, a power of two.
    pub pool_size: u32,
    /// What unwinders are told of thunks, [`UNWIND_SLOTS`] times.
    pub unwind: u32,
}

impl Activations {
    /// Bytes of a pool that holds so many activations.
    pub fn pool_of(most: u32) -> u32 {
        let slots = most.clamp(1, 1 << 20) + 2;
        slots.next_power_of_two() * ACTIVATION
    }

    /// Writes where they lie behind the mark of the code of thunks ([`super::CODE_HEAD`]): in the place
    /// of an activation that is never taken.
    pub fn mark(&self, write: impl Fn(u64, u64)) {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        write(MARK, pair(self.thunks, self.words));
        write(MARK + 8, pair(self.pools, self.pool_size));
        write(MARK + 16, self.unwind.into());
    }

    /// What [`Activations::mark`] wrote, if it can be: `None` for code of another kind.
    pub fn marked(read: impl Fn(u64) -> Option<u64>) -> Option<Activations> {
        let halves = |word: u64| (word as u32, (word >> 32) as u32);
        let (thunks, words) = halves(read(MARK)?);
        let (pools, pool_size) = halves(read(MARK + 8)?);
        let sane = pool_size.is_power_of_two()
            && pool_size >= 4 * ACTIVATION
            && words.is_multiple_of(pool_size)
            && pools > 0
            && u64::from(pools) * u64::from(pool_size) <= 1 << 29
            && u64::from(words) + u64::from(pools) * u64::from(pool_size) <= u64::from(thunks)
            && u64::from(thunks) < 1 << 31;
        sane.then_some(Activations {
            thunks,
            words,
            pools,
            pool_size,
            unwind: read(MARK + 16)? as u32,
        })
    }

    /// Bytes of all pools, in each of both.
    pub fn size(&self) -> u32 {
        self.pools * self.pool_size
    }

    /// Where the unwind information for an unwinder stands.
    pub fn unwind_slot(&self, number: u32) -> u32 {
        self.unwind + number * UNWIND_SLOT
    }

    /// From a thunk to its words.
    pub fn distance(&self) -> i32 {
        self.words.wrapping_sub(self.thunks).cast_signed()
    }

    /// Where the thunks lie.
    pub fn thunks(&self) -> Span {
        Span::new(Addr(self.thunks.into()), self.size().into())
    }

    /// Where the words lie.
    pub fn words(&self) -> Span {
        Span::new(Addr(self.words.into()), self.size().into())
    }

    /// The words of a pool, if there is one of this number.
    pub fn pool(&self, number: u32) -> Option<Addr> {
        let offset = u64::from(number) * u64::from(self.pool_size);
        (number < self.pools).then(|| Addr(u64::from(self.words) + offset))
    }

    /// The offsets in a pool of all its activations.
    pub fn offsets(&self) -> impl Iterator<Item = u32> + use<> {
        (ACTIVATION..self.pool_size - ACTIVATION).step_by(ACTIVATION as usize)
    }

    /// The return address that stands on the stack for the activation with these words.
    pub fn return_point(&self, words: Addr) -> Addr {
        let offset = words.0.wrapping_sub(self.words.into());
        Addr(u64::from(self.thunks) + offset + u64::from(RETURN_POINT))
    }

    /// The words of the activation whose thunk holds this address.
    pub fn words_of(&self, thunk: Addr) -> Option<Addr> {
        let offset = thunk.0.checked_sub(self.thunks.into())?;
        let activation = u64::from(ACTIVATION);
        (offset < self.size().into())
            .then(|| Addr(u64::from(self.words) + offset / activation * activation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_address_leads_to_its_words_and_back() {
        let activations = Activations {
            thunks: 0x1000_0000,
            words: 0x2000_0000,
            pools: 4,
            pool_size: Activations::pool_of(1022),
            unwind: 0,
        };
        assert_eq!(activations.pool_size, 1 << 16);
        let words = activations.pool(3).unwrap() + 128;
        let point = activations.return_point(words);
        assert_eq!(activations.words_of(point), Some(words));
        assert_eq!(activations.words_of(Addr(0x1004_0000)), None);
        assert_eq!(activations.pool(4), None);
        assert_eq!(activations.offsets().count(), 1022);
    }

    #[test]
    fn where_they_lie_is_found_by_their_mark() {
        let activations = Activations {
            thunks: 0x2004_0000,
            words: 0x2000_0000,
            pools: 4,
            pool_size: Activations::pool_of(1022),
            unwind: 0x1000,
        };
        let memory = std::cell::RefCell::new([0_u64; 8]);
        activations.mark(|at, word| memory.borrow_mut()[at as usize / 8] = word);
        let read = |at: u64| memory.borrow().get(at as usize / 8).copied();
        assert_eq!(Activations::marked(read), Some(activations));
        // Thunks that would lie among the words.
        memory.borrow_mut()[3] = 0x2000_0000_2000_0000;
        assert_eq!(Activations::marked(read), None);
        assert_eq!(Activations::marked(|_| Some(0)), None);
        assert_eq!(Activations::marked(|_| Some(u64::MAX)), None);
    }
}

//! Random instruction sequences, and the states they run from.

use kptrace::arch::x86_64::relocate::instruction_len;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Where code, copies and data of a group of cases lie.
#[derive(Clone, Copy)]
pub struct World {
    /// 128 KiB for originals and what they branch to.
    pub text: u64,
    /// A page to branch to from afar.
    pub far: u64,
    /// Pages for copies: close, far up, far down.
    pub copies: [u64; 3],
    /// A page for data, followed by nothing; at no small multiple of another world's addresses, so
    /// that scaled indices do not lead there.
    pub data: u64,
    /// A page for the stack.
    pub stack: u64,
}

pub const TEXT_SIZE: u64 = 0x20000;
/// What operands relative to EIP see: below 4 GiB.
pub const LOW_DATA: u64 = 0x5000_0000;
const GIB: u64 = 1 << 30;

/// Above 4 GiB; where return addresses fit a sign-extended immediate; where they do not.
pub const WORLDS: [World; 3] = [
    World {
        text: 0x2000_0000_0000,
        far: 0x2000_0000_0000 - GIB / 4,
        copies: [
            0x2000_0002_0000,
            0x2000_0000_0000 + GIB,
            0x2000_0000_0000 - 0x7980_0000, // 1.9 GiB
        ],
        data: 0x2000_0000_0000 - GIB / 2,
        stack: 0x2000_0000_0000 - GIB / 2 + 0x4000,
    },
    World {
        text: 0x6000_0000,
        far: 0x5800_0000,
        copies: [0x6002_0000, 0xa000_0000, 0x2000_0000],
        data: 0x5123_4000,
        stack: 0x5123_8000,
    },
    World {
        text: 0xc000_0000,
        far: 0xb800_0000,
        copies: [0xc002_0000, 0x1_0000_0000, 0x8000_0000],
        data: 0xb345_6000,
        stack: 0xb345_a000,
    },
];

/// A sequence and where it stands.
pub struct Sequence {
    pub at: u64,
    pub bytes: Vec<u8>,
    /// Whether a branch leads back to its start, so that the original must be stepped.
    pub step: bool,
}

/// Where the opcode is, behind the prefixes.
fn opcode_at(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| {
        !matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
    })
}

/// Whether this is a direct branch or call.
fn direct(bytes: &[u8]) -> bool {
    match opcode_at(bytes).map(|at| &bytes[at..]) {
        Some([0x0f, second, ..]) => matches!(second, 0x80..=0x8f),
        Some([0x70..=0x7f | 0xe0..=0xe3 | 0xe8 | 0xe9 | 0xeb, ..]) => true,
        _ => false,
    }
}

/// An instruction that changes what cannot be compared: system calls, segments, another mode,
/// clocks, the trap flag, addresses the processor saved, or processor numbers.
pub fn incomparable(bytes: &[u8]) -> bool {
    let Some(at) = opcode_at(bytes) else {
        return true;
    };
    let prefixed = bytes[..at].iter().any(|b| matches!(b, 0x66 | 0xf2 | 0xf3));
    let opcode = bytes[at];
    let second = bytes.get(at + 1).copied().unwrap_or(0);
    let third = bytes.get(at + 2).copied().unwrap_or(0);
    let reg = |modrm: u8| (modrm >> 3) & 7;
    // Locked accesses across cache lines: the kernel makes each take 10 ms. Those relative to RIP
    // are aligned here.
    let modrm = if opcode == 0x0f { third } else { second };
    let elsewhere = modrm < 0xc0 && modrm & 0xc7 != 5;
    let bit_test = opcode == 0x0f && matches!(second, 0xa3 | 0xab | 0xb3 | 0xbb);
    if bytes[..at].contains(&0xf0) && (elsewhere || bit_test) {
        return true;
    }
    match opcode {
        // xchg locks by itself.
        0x86 | 0x87 if elsewhere => true,
        // mov to segment; popf; ret far; int; iret; breakpoints.
        0x8e | 0x9d | 0xca | 0xcb | 0xcc..=0xcf | 0xf1 => true,
        // xabort, xbegin.
        0xc6 | 0xc7 => second == 0xf8,
        // x87 environment: holds instruction addresses.
        0xd9 | 0xdd => second < 0xc0 && matches!(reg(second), 4 | 6),
        0x9b => second == 0xd9 || second == 0xdd,
        0xff => matches!(reg(second), 3 | 5),
        0x0f => match second {
            // Descriptor tables, system calls and returns, clocks, cpuid, segment loads.
            0x00..=0x03 | 0x05 | 0x07 | 0x31 | 0x33..=0x35 | 0x37 | 0xa1 | 0xa2 | 0xa9 => true,
            0xb2 | 0xb4 | 0xb5 => true,
            // fxsave and its like, fs and gs bases, waits.
            0xae => prefixed || (third < 0xc0 && !matches!(reg(third), 2 | 3 | 7)),
            // rdrand, rdseed, rdpid, xsaves and its like.
            0xc7 => reg(third) != 1,
            _ => false,
        },
        _ => false,
    }
}

/// Bytes that look like an instruction: prefixes, an opcode from some map, the rest random.
fn candidate(rng: &mut Rng) -> ([u8; 15], usize) {
    let mut bytes = [0u8; 15];
    let mut n = 0;
    let mut put = |byte: u8| {
        bytes[n] = byte;
        n += 1;
    };
    let random = rng.next();
    let plain = !rng.percent(12);
    if plain {
        for (chance, byte) in [
            (8, 0x66),
            (4, 0x67),
            (3, 0xf0),
            (4, 0xf2),
            (5, 0xf3),
            (3, 0x64),
            (2, 0x65),
        ] {
            if rng.percent(chance) {
                put(byte);
            }
        }
        if rng.percent(55) {
            put(0x40 | (random & 0xf) as u8 | if rng.percent(60) { 8 } else { 0 });
        }
        match rng.below(100) {
            0..30 => put(0x0f),
            30..34 => (put(0x0f), put(0x38)).1,
            34..36 => (put(0x0f), put(0x3a)).1,
            _ => {}
        }
    } else {
        let (a, b) = ((random >> 8) as u8, (random >> 16) as u8);
        match rng.below(3) {
            0 => (put(0xc5), put(a)).1,
            1 => (put(0xc4), put(a & 0xe3 | 1), put(b)).2,
            _ => (put(0x62), put(a & 0xf7), put(b | 4), put(a >> 3)).3,
        }
    }
    let modrm = n + 1;
    let mut tail = rng.next();
    for (i, byte) in bytes[n..].iter_mut().enumerate() {
        *byte = tail as u8;
        tail = if i == 7 { rng.next() } else { tail >> 8 };
    }
    match rng.below(100) {
        // [rip + disp32]
        0..18 => bytes[modrm] = bytes[modrm] & 0x38 | 5,
        // A register.
        18..45 => bytes[modrm] |= 0xc0,
        // [reg + disp8]
        45..75 => bytes[modrm] = bytes[modrm] & 0x3f | 0x40,
        _ => {}
    }
    (bytes, modrm)
}

/// A random instruction that is no direct branch, at `ip`.
pub fn instruction(rng: &mut Rng, ip: u64, world: &World) -> Vec<u8> {
    loop {
        let (mut bytes, modrm) = candidate(rng);
        let Some(len) = instruction_len(&bytes) else {
            continue;
        };
        if direct(&bytes[..len]) || incomparable(&bytes[..len]) {
            continue;
        }
        if bytes[modrm] & 0xc7 == 5 && modrm + 5 <= len && !rng.percent(5) {
            let eip = bytes[..modrm].contains(&0x67);
            let page = if eip { LOW_DATA } else { world.data };
            let target = page + rng.below(4096 - 64) / 8 * 8;
            let disp = target.wrapping_sub(ip + len as u64) as u32;
            bytes[modrm + 1..modrm + 5].copy_from_slice(&disp.to_le_bytes());
            if instruction_len(&bytes) != Some(len) || incomparable(&bytes[..len]) {
                continue;
            }
        }
        return bytes[..len].to_vec();
    }
}

/// Opcodes of all direct branches and calls, with the size of their distance.
pub fn branches() -> Vec<(Vec<u8>, usize)> {
    let mut all = Vec::new();
    for condition in 0..16 {
        all.push((vec![0x70 | condition], 1));
        all.push((vec![0x0f, 0x80 | condition], 4));
    }
    for opcode in 0xe0..=0xe3 {
        all.push((vec![opcode], 1));
        all.push((vec![0x67, opcode], 1));
    }
    all.push((vec![0xeb], 1));
    for (prefix, opcode) in [
        (&[][..], 0xe9),
        (&[0xf2], 0xe9),
        (&[], 0xe8),
        (&[0x67], 0xe8),
    ] {
        all.push(([prefix, &[opcode]].concat(), 4));
    }
    all.push((vec![0x66, 0x66, 0x48, 0xe8], 4));
    all.push((vec![0x2e, 0x74], 1));
    all.push((vec![0x3e, 0x0f, 0x85], 4));
    all
}

/// Whether nothing may follow a branch of this opcode in a sequence.
fn is_last(opcode: &[u8]) -> bool {
    matches!(opcode.last(), Some(0xe8 | 0xe9 | 0xeb)) && opcode.first() != Some(&0x0f)
}

/// Distance field at `field` of `size` bytes, so that the branch leads to `target`.
fn set_distance(bytes: &mut [u8], field: usize, size: usize, from: u64, target: u64) -> bool {
    let distance = target.wrapping_sub(from + (field + size) as u64) as i64;
    match size {
        1 => i8::try_from(distance)
            .map(|d| bytes[field] = d as u8)
            .is_ok(),
        _ => i32::try_from(distance)
            .map(|d| bytes[field..field + 4].copy_from_slice(&d.to_le_bytes()))
            .is_ok(),
    }
}

/// A sequence with direct branches among random instructions.
pub fn branching(rng: &mut Rng, at: u64, world: &World, table: &[(Vec<u8>, usize)]) -> Sequence {
    let mut bytes = Vec::new();
    let mut fields = Vec::new();
    while bytes.len() < 5 {
        if rng.percent(50) {
            let (opcode, size) = &table[rng.below(table.len() as u64) as usize];
            bytes.extend_from_slice(opcode);
            fields.push((bytes.len(), *size));
            bytes.resize(bytes.len() + size, 0);
            if is_last(opcode) {
                break;
            }
        } else {
            let next = instruction(rng, at + bytes.len() as u64, world);
            bytes.extend_from_slice(&next);
        }
    }
    // A step stops at string instructions' repetitions, and pushf would see the step.
    let steppable = !bytes.iter().any(|b| matches!(b, 0x9c | 0xf2 | 0xf3));
    let len = bytes.len() as u64;
    let mut step = false;
    for (field, size) in fields {
        loop {
            let target = match rng.below(10) {
                0 | 1 if steppable => at,
                2 => at + len,
                3 if size == 4 => world.far + rng.below(4096),
                4 if size == 4 => world.text + rng.below(TEXT_SIZE),
                5..8 => at + len + rng.below(100),
                _ => at - 1 - rng.below(100),
            };
            let inside = target > at && target < at + len;
            if !inside && set_distance(&mut bytes, field, size, at, target) {
                step |= target == at;
                break;
            }
        }
    }
    Sequence { at, bytes, step }
}

/// A sequence of random instructions.
pub fn random(rng: &mut Rng, at: u64, world: &World) -> Sequence {
    let mut bytes = Vec::new();
    while bytes.len() < 5 {
        bytes.extend(instruction(rng, at + bytes.len() as u64, world));
    }
    Sequence {
        at,
        bytes,
        step: false,
    }
}

/// What compilers start functions with, and calls and jumps through every kind of operand.
pub fn typical(rng: &mut Rng, at: u64, world: &World) -> Sequence {
    const STARTS: &[&[u8]] = &[
        &[0xf3, 0x0f, 0x1e, 0xfa],                      // endbr64
        &[0x55],                                        // push rbp
        &[0x48, 0x89, 0xe5],                            // mov rbp, rsp
        &[0x41, 0x57],                                  // push r15
        &[0x53],                                        // push rbx
        &[0x48, 0x83, 0xec, 0x18],                      // sub rsp, 0x18
        &[0x31, 0xc0],                                  // xor eax, eax
        &[0x48, 0x85, 0xff],                            // test rdi, rdi
        &[0x89, 0xf8],                                  // mov eax, edi
        &[0x0f, 0x1f, 0x44, 0, 0],                      // nop
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], // mov rax, fs:0x28
    ];
    // Heads of instructions that end in a distance to data.
    const OPERANDS: &[&[u8]] = &[
        &[0x48, 0x8d, 0x05],
        &[0x48, 0x8b, 0x3d],
        &[0x89, 0x05],
        &[0x48, 0x3b, 0x05],
        &[0xff, 0x35],
        &[0x8f, 0x05],
        &[0xf0, 0xff, 0x05],
        &[0x66, 0x0f, 0x6f, 0x05],
        &[0x48, 0x0f, 0x44, 0x05],
        &[0x67, 0x8b, 0x05],
        &[0xf3, 0x0f, 0x10, 0x05],
        &[0xff, 0x25],
        &[0xff, 0x15],
        &[0x3e, 0xff, 0x15],
        &[0x66, 0x66, 0x48, 0xff, 0x15],
        &[0x67, 0xff, 0x15],
        &[0x41, 0xff, 0x15],
        &[0xf2, 0xff, 0x25],
    ];
    // Through registers and memory; the last byte may be a displacement of 8 bits.
    const INDIRECT: &[&[u8]] = &[
        &[0xff, 0xd0],
        &[0x41, 0xff, 0xd3],
        &[0x3e, 0xff, 0xd1],
        &[0xff, 0xe0],
        &[0x41, 0xff, 0xe4],
        &[0xff, 0x10],
        &[0xff, 0x50, 0x18],
        &[0x41, 0xff, 0x54, 0xc4, 0x10],
        &[0xff, 0x14, 0xc3],
        &[0x64, 0xff, 0x14, 0x25, 0x20, 0, 0, 0],
        &[0x41, 0xff, 0x65, 0x08],
        &[0xff, 0x20],
        &[0xc3],
        &[0xf3, 0xc3],
        &[0xc2, 0x10, 0],
        &[0x67, 0xff, 0x53, 0x10],
        &[0x65, 0xff, 0x10],
    ];
    let mut bytes: Vec<u8> = Vec::new();
    while bytes.len() < 5 {
        match rng.below(10) {
            0..5 => bytes.extend_from_slice(rng.pick(STARTS)),
            5..8 => {
                let head = rng.pick(OPERANDS);
                bytes.extend_from_slice(head);
                let page = if head[0] == 0x67 {
                    LOW_DATA
                } else {
                    world.data
                };
                let target = page + rng.below(500) * 8;
                let next = at + bytes.len() as u64 + 4;
                bytes.extend_from_slice(&(target.wrapping_sub(next) as u32).to_le_bytes());
                let modrm = head[head.len() - 1];
                if head[head.len() - 2] == 0xff && matches!(modrm, 0x15 | 0x25) {
                    break;
                }
            }
            _ => {
                bytes.extend_from_slice(rng.pick(INDIRECT));
                break;
            }
        }
    }
    Sequence {
        at,
        bytes,
        step: false,
    }
}

/// Whole instructions covering five bytes, from real code at 16-byte boundaries, as they stand.
pub fn real(rng: &mut Rng, at: u64, code: &[u8]) -> Option<Sequence> {
    let start = rng.below(code.len() as u64 / 16) as usize * 16;
    let rest = code.get(start..)?;
    let mut len = 0;
    while len < 5 {
        let tail = rest.get(len..)?;
        let one = instruction_len(tail)?;
        if incomparable(&tail[..one]) {
            return None;
        }
        len += one;
        // A loop to the start would have to be stepped; `branching` has those.
        let to_start = (len as i64).wrapping_neg();
        let last = |n: usize| tail.get(one.checked_sub(n)?..one);
        if last(1) == Some(&(to_start as i8).to_le_bytes()[..])
            || last(4) == Some(&(to_start as i32).to_le_bytes()[..])
        {
            return None;
        }
    }
    Some(Sequence {
        at,
        bytes: rest[..len].to_vec(),
        step: false,
    })
}

/// Registers (in DWARF order) with pointers to data, code and stack among numbers of all sizes. None
/// points near the sequence, whose text a site changes, nor near the top of the stack: a
/// call through the very slot where it puts its return address is a documented limit.
pub fn registers(rng: &mut Rng, world: &World) -> [u64; 16] {
    let mut regs = [0; 16];
    for (number, reg) in regs.iter_mut().enumerate() {
        *reg = match rng.below(100) {
            _ if number == 7 => world.stack + 3072 + rng.below(64) * 8,
            0..40 => world.data + 256 + rng.below(3584 / 8) * 8,
            40..45 => world.data + 256 + rng.below(3584),
            45..50 => world.stack + 256 + rng.below(2300),
            50..60 => world.far + rng.below(4096),
            60..78 => rng.below(20),
            78..83 => [0, u64::MAX, 1 << 63, u64::MAX >> 1][rng.below(4) as usize],
            83..90 => rng.next() as u32 as u64,
            _ => rng.next(),
        };
    }
    regs
}

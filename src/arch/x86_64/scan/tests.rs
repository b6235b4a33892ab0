//! Small pieces of machine code, one hazard each.

use super::*;

const AT: u64 = 0x40_1000;

/// Bytes of code at [`AT`], with functions, pointers and other data.
#[derive(Default)]
struct Case<'a> {
    bytes: &'a [u8],
    functions: &'a [(u64, u64)],
    pointers: &'a [u64],
    rodata: Option<(u64, &'a [u8])>,
    fixed: bool,
}

impl Case<'_> {
    fn at(&self, offset: u64) -> Result<Window, Refusal> {
        let code = [Code {
            start: AT,
            bytes: self.bytes,
        }];
        let functions: Vec<_> = self
            .functions
            .iter()
            .map(|f| (AT + f.0, AT + f.1))
            .collect();
        let pointers: Vec<_> = self.pointers.iter().map(|p| AT + p).collect();
        let rodata = self.rodata.map(|(start, bytes)| Code { start, bytes });
        let input = Input {
            code: &code,
            functions: &functions,
            pointers: &pointers,
            landing_pads: &[],
            rodata: rodata.as_slice(),
            reserved: &[],
            pie: !self.fixed,
        };
        let targets = sweep(&input);
        window(
            &input,
            &targets,
            AT + offset,
            function_end(&input, AT + offset),
        )
    }
}

fn len(bytes: &[u8]) -> Result<u8, Refusal> {
    let end = bytes.len() as u64;
    let functions = [(0, end)];
    let case = Case {
        bytes,
        functions: &functions,
        ..Case::default()
    };
    case.at(0).map(|window| window.len)
}

fn kind(bytes: &[u8], functions: &[(u64, u64)]) -> Result<WindowKind, Refusal> {
    let case = Case {
        bytes,
        functions,
        ..Case::default()
    };
    case.at(0).map(|window| window.kind)
}

#[test]
fn a_branch_to_the_interior_refuses_and_one_to_either_end_does_not() {
    // Six one-byte pushes, then `jmp target` at +6.
    for target in 0..8_u8 {
        let back = target.wrapping_sub(8);
        let got = len(&[0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0xeb, back]);
        match target {
            1..5 => assert_eq!(got, Err(Refusal::BranchInto { from: Some(6) }), "{target}"),
            _ => assert_eq!(got, Ok(5), "{target}"),
        }
    }
}

#[test]
fn a_branch_from_another_function_refuses_too() {
    // f: push*5, ret; g at +6: jne f+2
    let case = Case {
        bytes: &[0x50, 0x51, 0x52, 0x53, 0x55, 0xc3, 0x75, 0xfa],
        functions: &[(0, 6), (6, 8)],
        ..Case::default()
    };
    assert_eq!(case.at(0), Err(Refusal::BranchInto { from: Some(6) }));
}

#[test]
fn every_form_of_branch_counts() {
    for branch in [
        &[0x74, 0xfb][..],                     // je
        &[0xe3, 0xfb],                         // jrcxz
        &[0xe2, 0xfb],                         // loop
        &[0xeb, 0xfb],                         // jmp short
        &[0xe9, 0xf8, 0xff, 0xff, 0xff],       // jmp near
        &[0xe8, 0xf8, 0xff, 0xff, 0xff],       // call
        &[0x0f, 0x84, 0xf7, 0xff, 0xff, 0xff], // je near
        &[0xc7, 0xf8, 0xf7, 0xff, 0xff, 0xff], // xbegin
        &[0xf2, 0xe9, 0xf7, 0xff, 0xff, 0xff], // bnd jmp
    ] {
        let mut bytes = vec![0x50, 0x51, 0x52, 0x53, 0x55];
        bytes.extend(branch);
        bytes.push(0xc3);
        assert_eq!(
            len(&bytes),
            Err(Refusal::BranchInto { from: Some(5) }),
            "{branch:x?}"
        );
    }
}

#[test]
fn a_branch_over_a_lock_prefix_leads_into_the_window() {
    // lock inc dword [rdi]; ret; then `je` to the byte behind the prefix.
    let bytes = [0xf0, 0xff, 0x07, 0x90, 0x90, 0x74, 0xfa, 0xc3];
    assert_eq!(len(&bytes), Err(Refusal::BranchInto { from: Some(5) }));
}

/// `lea rdx,[rip+table]; movsxd rax,[rdx+rdi*4]; add rax,rdx; jmp rax` behind five pushes.
fn switch(entries: &[i64]) -> Result<Window, Refusal> {
    let table = AT + 0x1000;
    let mut bytes = vec![0x50, 0x51, 0x52, 0x53, 0x55, 0x48, 0x8d, 0x15];
    let distance = (table - (AT + 12)) as u32;
    bytes.extend(distance.to_le_bytes());
    bytes.extend([0x48, 0x63, 0x04, 0xba, 0x48, 0x01, 0xd0, 0xff, 0xe0, 0xc3]);
    let mut data = Vec::new();
    for entry in entries {
        let distance = (AT as i64 + entry - table as i64) as i32;
        data.extend(distance.to_le_bytes());
    }
    Case {
        bytes: &bytes,
        functions: &[(0, 22)],
        rodata: Some((table, &data)),
        ..Case::default()
    }
    .at(0)
}

#[test]
fn a_switch_whose_case_is_in_the_window_is_refused() {
    assert_eq!(switch(&[21, 2]), Err(Refusal::PointerInto { at: 2 }));
    assert_eq!(switch(&[2]), Err(Refusal::PointerInto { at: 2 }));
}

#[test]
fn a_switch_whose_case_is_the_first_instruction_is_not() {
    assert_eq!(switch(&[0, 5, 21]).map(|w| w.len), Ok(5));
    // The table ends at the first entry that leads out of the code.
    assert_eq!(switch(&[21, 0x7000_0000, 2]).map(|w| w.len), Ok(5));
}

#[test]
fn a_table_of_addresses_counts_in_a_file_linked_to_one_place() {
    let data: Vec<u8> = [AT + 5, AT + 3]
        .iter()
        .flat_map(|a| a.to_le_bytes())
        .collect();
    for (skew, fixed) in [(0, true), (4, true), (0, false)] {
        // push*5; jmp [rdi*8+table]
        let table = 0x40_3000_u64 + skew;
        let mut bytes = vec![0x50, 0x51, 0x52, 0x53, 0x55, 0xff, 0x24, 0xfd];
        bytes.extend((table as u32).to_le_bytes());
        let case = Case {
            bytes: &bytes,
            functions: &[(0, 12)],
            rodata: Some((table, &data)),
            fixed,
            ..Case::default()
        };
        let expected = if fixed {
            Err(Refusal::PointerInto { at: 3 })
        } else {
            Ok(5)
        };
        assert_eq!(case.at(0).map(|w| w.len), expected, "skew {skew}");
    }
}

#[test]
fn a_table_of_narrow_addresses_counts_where_an_operand_names_it() {
    // push*5; mov eax,[rdi*4+table]; jmp rax
    let table = 0x40_3000_u32;
    let mut bytes = vec![0x50, 0x51, 0x52, 0x53, 0x55, 0x8b, 0x04, 0xbd];
    bytes.extend(table.to_le_bytes());
    bytes.extend([0xff, 0xe0]);
    let data: Vec<u8> = [AT as u32 + 5, AT as u32 + 3]
        .iter()
        .flat_map(|a| a.to_le_bytes())
        .collect();
    let case = |fixed| Case {
        bytes: &bytes,
        functions: &[(0, 14)],
        rodata: Some((table.into(), &data)),
        fixed,
        ..Case::default()
    };
    assert_eq!(case(true).at(0), Err(Refusal::PointerInto { at: 3 }));
    assert_eq!(case(false).at(0).map(|w| w.len), Ok(5));
}

#[test]
fn a_table_of_distances_from_a_label_counts_in_the_function_that_has_both() {
    let (table, label) = (0x40_3000_u32, AT as u32 + 21);
    // push*5; movsxd rdx,[rdi*4+table]; add rdx,label; jmp rdx
    let mut fixed = vec![0x50, 0x51, 0x52, 0x53, 0x55, 0x48, 0x63, 0x14, 0xbd];
    fixed.extend(table.to_le_bytes());
    fixed.extend([0x48, 0x81, 0xc2]);
    fixed.extend(label.to_le_bytes());
    fixed.extend([0xff, 0xe2, 0xc3]);
    // push*5; lea rcx,[rip+table]; lea rdx,[rip+label]; movsxd rcx,[rcx+rdi*4]; add rdx,rcx; jmp rdx
    let mut moved = vec![0x50, 0x51, 0x52, 0x53, 0x55, 0x48, 0x8d, 0x0d];
    moved.extend((table - (AT as u32 + 12)).to_le_bytes());
    moved.extend([0x48, 0x8d, 0x15]);
    moved.extend((label - (AT as u32 + 19)).to_le_bytes());
    moved.extend([0x48, 0x63, 0x0c, 0xb9, 0x48, 0x01, 0xca, 0xff, 0xe2, 0xc3]);
    let data: Vec<u8> = [0, 2 - 21, -17]
        .iter()
        .flat_map(|d: &i32| d.to_le_bytes())
        .collect();
    for (bytes, fixed) in [(&fixed, true), (&moved, false)] {
        let functions = [(0, bytes.len() as u64)];
        let case = |data| Case {
            bytes,
            functions: &functions,
            rodata: Some((table.into(), data)),
            fixed,
            ..Case::default()
        };
        assert_eq!(case(&data).at(0), Err(Refusal::PointerInto { at: 2 }));
        assert_eq!(case(&data[..4]).at(0).map(|w| w.len), Ok(5));
        // Another function's label.
        let others = [(0, 20), (20, bytes.len() as u64)];
        let case = Case {
            functions: &others,
            ..case(&data)
        };
        assert_eq!(case.at(0).map(|w| w.len), Ok(5));
    }
}

#[test]
fn a_label_whose_address_is_taken_counts() {
    // push*5; lea rax,[rip-10] = +2; jmp rax
    let lea = [
        0x50, 0x51, 0x52, 0x53, 0x55, 0x48, 0x8d, 0x05, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xe0,
    ];
    assert_eq!(len(&lea), Err(Refusal::PointerInto { at: 2 }));
    // push*5; mov eax, AT+4; jmp rax: only where constants can be addresses
    let mov = [
        0x50, 0x51, 0x52, 0x53, 0x55, 0xb8, 0x04, 0x10, 0x40, 0x00, 0xff, 0xe0,
    ];
    let case = |fixed, pointers: &'static [u64]| Case {
        bytes: &mov,
        functions: &[(0, 12)],
        pointers,
        fixed,
        ..Case::default()
    };
    assert_eq!(case(true, &[]).at(0), Err(Refusal::PointerInto { at: 4 }));
    assert_eq!(case(false, &[]).at(0).map(|w| w.len), Ok(5));
    // A relocated pointer, as a table of computed gotos has it.
    assert_eq!(case(false, &[1]).at(0), Err(Refusal::PointerInto { at: 1 }));
    assert_eq!(case(false, &[0, 5]).at(0).map(|w| w.len), Ok(5));
}

#[test]
fn a_short_function_takes_padding_and_nothing_else() {
    let bodies: [&[u8]; 4] = [
        &[0xc3],
        &[0xf3, 0xc3],
        &[0xff, 0xc0, 0xc3],
        &[0x48, 0xff, 0xc0, 0xc3],
    ];
    for body in bodies {
        let n = body.len() as u64;
        let functions = [(0, n), (16, 17)];
        let fill = |filler: &[u8]| -> Vec<u8> {
            let mut bytes = body.to_vec();
            bytes.extend(filler.iter().cycle().take(16 - body.len()));
            bytes.push(0xc3);
            bytes
        };
        for filler in [&[0x90][..], &[0xcc], &[0x00], &[0x66, 0x90]] {
            if filler.len() == 2 && n % 2 == 1 {
                continue; // the last filler would not fit
            }
            let case = Case {
                bytes: &fill(filler),
                functions: &functions,
                ..Case::default()
            };
            let window = case.at(0).unwrap();
            assert_eq!(
                (window.kind, u64::from(window.len)),
                (WindowKind::Padding, n)
            );
            assert_eq!(window.patched(), 5);
        }
        let code = fill(&[0x50]);
        assert_eq!(kind(&code, &functions), Err(Refusal::TooShort));
        // No padding: the next function follows at once.
        let mut packed = body.to_vec();
        packed.extend([0xc3; 8]);
        assert_eq!(kind(&packed, &[(0, n), (n, n + 8)]), Err(Refusal::TooShort));
        // Nor beyond the end of the code.
        assert_eq!(kind(body, &[(0, n)]), Err(Refusal::TooShort));
    }
}

#[test]
fn padding_that_something_leads_into_is_not_taken() {
    // ret; nop*7; g at +8: jmp to +3
    let bytes = [0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xeb, 0xf9];
    let functions = [(0, 1), (8, 10)];
    assert_eq!(
        kind(&bytes, &functions),
        Err(Refusal::BranchInto { from: Some(8) })
    );
    // A patchable area before the next function is known by its pointer.
    let case = Case {
        bytes: &[0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3],
        functions: &[(0, 1), (8, 9)],
        pointers: &[3],
        ..Case::default()
    };
    assert_eq!(case.at(0), Err(Refusal::PointerInto { at: 3 }));
}

#[test]
fn code_behind_a_return_in_the_window_is_named() {
    // test edi,edi; ret; push rax; pop rax; ret
    let bytes = [0x85, 0xff, 0xc3, 0x50, 0x58, 0xc3];
    assert_eq!(len(&bytes), Err(Refusal::TerminatorInside));
}

#[test]
fn zeros_that_may_be_data_are_no_padding() {
    // ret; zeros; then data before the next function
    let mut bytes = vec![0xc3];
    bytes.extend([0; 7]);
    bytes.extend([1, 2, 3, 4, 5, 6, 7, 8, 0xc3]);
    assert_eq!(kind(&bytes, &[(0, 1), (16, 17)]), Err(Refusal::TooShort));
}

#[test]
fn labels_closer_than_a_window_refuse_the_first() {
    for gap in 1..=5_u64 {
        let bytes = [
            0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0x57, 0x50, 0x51, 0x52, 0x53, 0xc3,
        ];
        let functions = [(0, 12), (gap, gap)];
        let got = kind(&bytes, &functions);
        if gap < 5 {
            let at = gap as u8;
            assert_eq!(got, Err(Refusal::StartInside { at }));
        } else {
            assert_eq!(got, Ok(WindowKind::Plain));
        }
    }
}

#[test]
fn a_call_may_end_the_window_but_not_return_into_it() {
    // call rax; three pushes
    assert_eq!(
        len(&[0xff, 0xd0, 0x50, 0x50, 0x50, 0xc3]),
        Err(Refusal::ReturnInside)
    );
    // sub rsp,8; call +0x100
    assert_eq!(
        len(&[0x48, 0x83, 0xec, 0x08, 0xe8, 0, 1, 0, 0, 0xc3]),
        Ok(9)
    );
    assert_eq!(len(&[0xe8, 0, 1, 0, 0, 0xc3]), Ok(5));
}

#[test]
fn what_works_only_in_its_place_is_refused_by_name() {
    let refused = |bytes: &[u8], why| {
        let mut bytes = bytes.to_vec();
        bytes.extend([0x90; 8]);
        assert_eq!(len(&bytes), Err(Refusal::Unmovable(why)), "{bytes:x?}");
    };
    refused(&[0xe8, 0, 0, 0, 0], Unmovable::OwnAddress);
    refused(&[0xcc], Unmovable::Interrupt);
    refused(&[0xcd, 0x80], Unmovable::Interrupt);
    refused(&[0xff, 0x54, 0x24, 0x08], Unmovable::StackCall); // call [rsp+8]
    refused(&[0xff, 0xd4], Unmovable::StackCall); // call rsp
    refused(&[0x48, 0xcf], Unmovable::Far); // iretq
    refused(&[0x48, 0xcb], Unmovable::Far); // retfq
    refused(&[0x48, 0xff, 0x18], Unmovable::Far); // call far [rax]
    refused(&[0x48, 0xff, 0x28], Unmovable::Far); // jmp far [rax]
    refused(&[0xc7, 0xf8, 9, 0, 0, 0], Unmovable::Transaction);
    refused(&[0x67, 0x8b, 0x05, 0, 0, 0, 0], Unmovable::Eip);
    refused(&[0xc8, 8, 0, 0], Unmovable::Enter);
}

#[test]
fn branches_and_calls_through_memory_move() {
    assert_eq!(len(&[0xff, 0x25, 0, 1, 0, 0]), Ok(6)); // jmp [rip+0x100]
    assert_eq!(len(&[0xff, 0x15, 0, 1, 0, 0, 0xc3]), Ok(6)); // call [rip+0x100]
    assert_eq!(
        len(&[0xff, 0x50, 0x08, 0x50, 0x50, 0xc3]),
        Err(Refusal::ReturnInside)
    );
    assert_eq!(len(&[0x48, 0x85, 0xff, 0x74, 0x10, 0xc3]), Ok(5)); // test; je
    assert_eq!(len(&[0xe3, 0x10, 0x48, 0xff, 0xc0, 0xc3]), Ok(5)); // jrcxz; inc
}

#[test]
fn a_five_byte_nop_is_its_own_kind() {
    let nop5 = [0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];
    assert_eq!(kind(&nop5, &[(0, 6)]), Ok(WindowKind::Nop));
    let endbr = [0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];
    assert_eq!(kind(&endbr, &[(0, 10)]), Ok(WindowKind::Nop));
    let later = [0x90, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];
    assert_eq!(kind(&later, &[(0, 7)]), Ok(WindowKind::Nop));
    let behind_code = [0x50, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];
    assert_eq!(kind(&behind_code, &[(0, 7)]), Ok(WindowKind::Plain));
}

#[test]
fn a_row_of_nops_or_a_jump_over_them_is_the_same_kind() {
    let row = [0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3];
    assert_eq!(kind(&row, &[(0, 7)]), Ok(WindowKind::Nop));
    // Four are too few.
    assert_eq!(kind(&row[2..], &[(0, 5)]), Ok(WindowKind::Plain));
    let sled = [0xeb, 9, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0, 0x50, 0xc3];
    let whole = |bytes: &[u8], pointers: &[u64]| {
        let functions = [(0, bytes.len() as u64)];
        let case = Case {
            bytes,
            functions: &functions,
            pointers,
            ..Case::default()
        };
        case.at(0).map(|window| (window.kind, window.len))
    };
    assert_eq!(whole(&sled, &[]), Ok((WindowKind::Nop, 11)));
    let endbr = [&[0xf3, 0x0f, 0x1e, 0xfa][..], &sled].concat();
    assert_eq!(whole(&endbr, &[]), Ok((WindowKind::Nop, 15)));
    // Something leads into it, or it leads over something else: a jump with what it is padded by.
    assert_eq!(whole(&sled, &[9]), Ok((WindowKind::Padding, 2)));
    let over_code = [
        0xeb, 9, 0x66, 0x0f, 0x1f, 0x44, 0, 0, 0x50, 0x50, 0x50, 0xc3,
    ];
    assert_eq!(whole(&over_code, &[]), Ok((WindowKind::Padding, 2)));
}

#[test]
fn a_short_jump_needs_two_bytes_that_nothing_leads_into() {
    let short = |bytes: &[u8], pointers: &[u64]| {
        let end = bytes.len() as u64;
        let code = [Code { start: AT, bytes }];
        let functions = [(AT, AT + end)];
        let pointers: Vec<_> = pointers.iter().map(|p| AT + p).collect();
        let input = Input {
            code: &code,
            functions: &functions,
            pointers: &pointers,
            landing_pads: &[],
            rodata: &[],
            reserved: &[],
            pie: true,
        };
        let window = springboard(&input, &sweep(&input), AT, Some(AT + end));
        window.map(|window| (window.len, window.patched()))
    };
    let moves = [0x48, 0x89, 0xf8, 0x48, 0xff, 0xc8, 0xc3]; // mov rax,rdi; dec rax
    assert_eq!(short(&moves, &[2, 3, 4]), Ok((3, 2)));
    assert_eq!(short(&moves, &[1]), Err(Refusal::PointerInto { at: 1 }));
    assert_eq!(short(&[0x53, 0xff, 0xd0, 0xc3], &[]), Ok((3, 2))); // push; call rax
    assert_eq!(short(&[0x53, 0x50, 0xc3], &[]), Ok((2, 2)));
    assert_eq!(short(&[0xc3, 0x90], &[]), Ok((1, 2)));
    assert_eq!(short(&[0xc3, 0x50], &[]), Err(Refusal::TerminatorInside));
    assert_eq!(short(&[0xc3], &[]), Err(Refusal::TooShort));
}

#[test]
fn endbr64_is_displaced_like_anything_else() {
    assert_eq!(len(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0xc3]), Ok(5));
}

#[test]
fn a_system_call_in_the_window_is_told() {
    let bytes = [0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3];
    let at = |bytes| {
        let case = Case {
            bytes,
            functions: &[(0, 8)],
            ..Case::default()
        };
        case.at(0).map(|w| (w.len, w.syscall))
    };
    assert_eq!(at(&bytes), Ok((5, false)));
    assert_eq!(
        at(&[0x31, 0xc0, 0x0f, 0x05, 0x90, 0x90, 0x90, 0xc3]),
        Ok((5, true))
    );
}

#[test]
fn bytes_that_do_not_decode_do_not_hide_a_branch() {
    // push*5; ret; 0x06 (invalid); 0xb8 swallows the four bytes behind it, among them `jmp +2`.
    let bytes = [
        0x50, 0x51, 0x52, 0x53, 0x55, 0xc3, 0x06, 0xb8, 0xeb, 0xf8, 0x90, 0x90, 0xc3,
    ];
    assert!(matches!(len(&bytes), Err(Refusal::BranchInto { .. })));
    assert_eq!(
        len(&[0x50, 0x06, 0x50, 0x50, 0x50, 0x50]),
        Err(Refusal::Undecodable)
    );
}

#[test]
fn a_branch_into_the_middle_of_an_instruction_brings_its_code_to_light() {
    // push*5; ret; `jmp` to +9, inside `mov eax, imm32`; there: `jmp +2`.
    let bytes = [
        0x50, 0x51, 0x52, 0x53, 0x55, 0xc3, 0xeb, 0x01, 0xb8, 0xeb, 0xf7, 0x90, 0x90, 0xc3,
    ];
    assert!(matches!(len(&bytes), Err(Refusal::BranchInto { .. })));
}

#[test]
fn an_instruction_never_runs_across_a_known_start() {
    // A stray 0xb8 before g, which is `jmp f+3`: seen because g is a known start.
    let bytes = [
        0x50, 0x51, 0x52, 0x53, 0x55, 0xc3, 0xb8, 0xeb, 0xfa, 0x90, 0x90,
    ];
    let functions = [(0, 6), (7, 9)];
    assert_eq!(
        kind(&bytes, &functions),
        Err(Refusal::BranchInto { from: Some(7) })
    );
}

#[test]
fn code_that_surrounds_the_address_space_end_does_no_harm() {
    let code = [Code {
        start: u64::MAX - 3,
        bytes: &[0x50; 64],
    }];
    let functions = [(u64::MAX - 3, u64::MAX)];
    let input = Input {
        code: &code,
        functions: &functions,
        pointers: &[u64::MAX, 0],
        landing_pads: &[],
        rodata: &[],
        reserved: &[],
        pie: true,
    };
    let targets = sweep(&input);
    assert!(window(&input, &targets, u64::MAX - 3, None).is_err());
}

proptest::proptest! {
    /// Whatever the bytes: no panic, and an accepted window keeps the invariant as far as a second,
    /// simpler look can tell.
    #[test]
    fn no_bytes_upset_the_scan(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..200),
        start in 0_u64..200,
        end in 0_u64..200,
    ) {
        let functions = [(start, end)];
        let case = Case { bytes: &bytes, functions: &functions, ..Case::default() };
        for at in 0..bytes.len() as u64 {
            let Ok(window) = case.at(at) else { continue };
            let patched = u64::from(window.patched());
            proptest::prop_assert!(at + patched <= bytes.len() as u64);
            proptest::prop_assert!(!(at + 1..at + patched).contains(&start));
        }
    }
}

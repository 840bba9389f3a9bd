//! The guests themselves, assembled with this program and copied out of its read-only data.
//!
//! They run at CPL 0 in the state the boot protocol leaves: long mode, 4 GiB mapped, interrupts off, a small stack.
//! Every program is loaded at 1 MiB and finds its own labels relative to RIP, except in descriptors and gates,
//! which hold absolute addresses.

#![expect(unsafe_code, reason = "the assembler's output can only be reached by its symbols")]

use std::arch::global_asm;

/// Declares a program: its name in Rust, the symbols around it in the assembly.
macro_rules! program {
    ($(#[$doc:meta])* $name:ident, $start:ident, $end:ident) => {
        $(#[$doc])*
        pub(super) fn $name() -> &'static [u8] {
            unsafe extern "C" {
                static $start: u8;
                static $end: u8;
            }
            let (start, end) = (&raw const $start, &raw const $end);
            // SAFETY: the two symbols bound one run of bytes in this program's read-only data, below.
            unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
        }
    };
}

pub(super) use program;

program!(
    /// Prints a line.
    hello,
    stub_hello,
    stub_hello_end
);
program!(
    /// Prints what it reads from the first virtio device's first register, and from an address without device.
    mmio,
    stub_mmio,
    stub_mmio_end
);
program!(
    /// Prints the kinds of all virtio devices, each as the character that many behind '0'.
    device_kinds,
    stub_kinds,
    stub_kinds_end
);
program!(
    /// Asks the serial port for an interrupt, and prints from the handler.
    interrupt,
    stub_interrupt,
    stub_interrupt_end
);
program!(
    /// Executes INT3, with a handler, and FWAIT.
    breakpoint,
    stub_breakpoint,
    stub_breakpoint_end
);
program!(
    /// Copies sector 1 of the first virtio device, a disk, to sector 2, and prints it.
    copy_sector,
    stub_copy,
    stub_copy_end
);
program!(
    /// Sends back whatever arrives on any connection of the first virtio device, a vsock, until one is closed.
    vsock_echo,
    stub_echo,
    stub_echo_end
);
program!(
    /// Starts the second processor, which prints; then prints itself.
    two_processors,
    stub_two_processors,
    stub_two_processors_end
);
program!(
    /// Prints dots for ever.
    dots,
    stub_dots,
    stub_dots_end
);
program!(
    /// Prints "loop" and then loops without ever leaving the guest.
    tight_loop,
    stub_tight_loop,
    stub_tight_loop_end
);
program!(
    /// An exception without a handler.
    triple_fault,
    stub_triple_fault,
    stub_triple_fault_end
);
program!(
    /// Jumps to where there is no memory.
    run_from_nowhere,
    stub_nowhere,
    stub_nowhere_end
);

global_asm!(
    include_str!("macros.s"),
    ".pushsection .rodata.stub_guests, \"a\"",
    "stub_hello:",
    "    stub_print 1f",
    "    stub_reset",
    "1:  .asciz \"stub guest speaks\\n\"",
    "stub_hello_end:",
    //
    "stub_mmio:",
    "    mov ebx, 0xd0000000",
    "    mov ecx, [rbx]",
    "    mov dx, 0x3f8",
    "    mov edi, 4",
    "1:  mov al, cl",
    "    out dx, al",
    "    shr ecx, 8",
    "    dec edi",
    "    jnz 1b",
    "    mov ebx, 0xe0000000",
    "    cmp dword ptr [rbx], -1",
    "    jne 2f",
    "    mov dword ptr [rbx], 0x12345678",
    "    stub_print 3f",
    "2:  stub_reset",
    "3:  .asciz \" and ones\\n\"",
    "stub_mmio_end:",
    //
    "stub_kinds:",
    "    mov ebx, 0xd0000008",
    "    mov dx, 0x3f8",
    "1:  mov eax, [rbx]",
    "    cmp eax, -1",
    "    je 2f",
    "    add al, '0'",
    "    out dx, al",
    "    add ebx, 0x1000",
    "    jmp 1b",
    "2:  stub_reset",
    "stub_kinds_end:",
    //
    "stub_interrupt:",
    "    stub_route 4, stub_interrupt_handler, stub_interrupt_idt, stub_interrupt_pointer",
    // Interrupt enable register: the transmitter is empty.
    "    mov dx, 0x3f9",
    "    mov al, 2",
    "    out dx, al",
    "1:  sti",
    "    hlt",
    "    cli",
    "    cmp byte ptr [rip + stub_interrupt_done], 0",
    "    je 1b",
    "    stub_print 2f",
    "    stub_reset",
    "2:  .asciz \"and back\\n\"",
    "stub_interrupt_done: .byte 0",
    "stub_interrupt_handler:",
    "    stub_print 3f",
    "    mov byte ptr [rip + stub_interrupt_done], 1",
    "    stub_end_of_interrupt",
    "    iretq",
    "3:  .asciz \"interrupted \"",
    "    stub_idt stub_interrupt_idt, stub_interrupt_pointer, stub_interrupt",
    "stub_interrupt_end:",
    //
    "stub_breakpoint:",
    "    stub_gate 3, stub_breakpoint_handler, stub_breakpoint_idt",
    "    lidt [rip + stub_breakpoint_pointer]",
    "    int3",
    "    fwait",
    "    stub_print 2f",
    "    stub_reset",
    "2:  .asciz \"and on\\n\"",
    "stub_breakpoint_handler:",
    "    stub_print 3f",
    "    iretq",
    "3:  .asciz \"break \"",
    "    stub_idt stub_breakpoint_idt, stub_breakpoint_pointer, stub_breakpoint",
    "stub_breakpoint_end:",
    //
    // Descriptor flags: 1 another follows, 2 the device writes. Request types: 0 read, 1 write.
    "    .balign 16",
    "stub_copy:",
    "    stub_route 5, stub_copy_handler, stub_copy_idt, stub_copy_pointer",
    "    stub_virtio_begin",
    "    stub_virtio_queue 0, stub_copy_queue",
    "    stub_virtio_ready",
    "    mov word ptr [rip + stub_copy_queue + 0x102], 1",
    "    stub_virtio_notify 0",
    "    stub_virtio_wait stub_copy_queue, 0",
    "    mov word ptr [rip + stub_copy_queue + 0x102], 2",
    "    stub_virtio_notify 0",
    "    stub_virtio_wait stub_copy_queue, 1",
    "    cmp word ptr [rip + stub_copy_statuses], 0",
    "    jne 1f",
    "    stub_print stub_copy_data",
    "1:  stub_reset",
    "stub_copy_handler:",
    "    stub_virtio_handler",
    "stub_copy_statuses: .byte 0xff, 0xff",
    "    .balign 16",
    "stub_copy_read: .long 0, 0",
    "    .quad 1",
    "stub_copy_write: .long 1, 0",
    "    .quad 2",
    "stub_copy_data: .zero 512",
    "stub_copy_queue:",
    "    stub_descriptor 0x100000+stub_copy_read-stub_copy, 16, 1, 1",
    "    stub_descriptor 0x100000+stub_copy_data-stub_copy, 512, 3, 2",
    "    stub_descriptor 0x100000+stub_copy_statuses-stub_copy, 1, 2, 0",
    "    stub_descriptor 0x100000+stub_copy_write-stub_copy, 16, 1, 4",
    "    stub_descriptor 0x100000+stub_copy_data-stub_copy, 512, 1, 5",
    "    stub_descriptor 0x100000+stub_copy_statuses-stub_copy+1, 1, 2, 0",
    "    .zero 0x100 - 6 * 16",
    "    .word 0, 0, 0, 3", // available: the chains begin at descriptors 0 and 3
    "    .zero 0x100 - 4 * 2 + 0x100",
    "    stub_idt stub_copy_idt, stub_copy_pointer, stub_copy",
    "stub_copy_end:",
    //
    // Queues: 0 receives, 1 transmits, 2 has events. Packet header: source and destination, ports at 16 and 20,
    // length at 24, operation at 30, credit at 36 and 40. Operations: 1 request, 2 response, 3 reset, 4 shutdown,
    // 5 data. R12 and R15 count received and sent packets, R14 the newest connection's bytes; R13 is the packet at hand, EBP its
    // buffer's number.
    "    .balign 16",
    "stub_echo:",
    "    stub_route 5, stub_echo_handler, stub_echo_idt, stub_echo_pointer",
    "    xor r12d, r12d",
    "    xor r14d, r14d",
    "    xor r15d, r15d",
    "    stub_virtio_begin",
    "    stub_virtio_queue 0, stub_echo_receive",
    "    stub_virtio_queue 1, stub_echo_transmit",
    "    stub_virtio_queue 2, stub_echo_events",
    "    stub_virtio_ready",
    "    stub_virtio_notify 0",
    "stub_echo_next:",
    "    stub_virtio_wait stub_echo_receive, r12w",
    "    mov eax, r12d",
    "    and eax, 7",
    "    lea rbx, [rip + stub_echo_receive + 0x204]",
    "    mov ebp, [rbx + rax * 8]",
    "    mov r13d, ebp",
    "    shl r13d, 12",
    "    add r13d, 0x200000",
    "    mov cx, 2",
    "    cmp word ptr [r13 + 30], 1",
    "    cmove r14d, [rip + stub_echo_nothing]",
    "    je stub_echo_reply",
    "    mov cx, 3",
    "    cmp word ptr [r13 + 30], 4",
    "    je stub_echo_reply",
    "    mov cx, 5",
    "    cmp word ptr [r13 + 30], 5",
    "    jne stub_echo_recycle",
    "    add r14d, [r13 + 24]",
    "stub_echo_reply:",
    "    mov rax, [r13]",
    "    xchg rax, [r13 + 8]",
    "    mov [r13], rax",
    "    mov eax, [r13 + 16]",
    "    xchg eax, [r13 + 20]",
    "    mov [r13 + 16], eax",
    "    mov [r13 + 30], cx",
    "    mov dword ptr [r13 + 32], 0",
    "    mov dword ptr [r13 + 36], 0x10000",
    "    mov [r13 + 40], r14d",
    "    mov [rip + stub_echo_transmit], r13",
    "    mov eax, [r13 + 24]",
    "    add eax, 44",
    "    mov [rip + stub_echo_transmit + 8], eax",
    "    inc word ptr [rip + stub_echo_transmit + 0x102]",
    "    stub_virtio_notify 1",
    "    stub_virtio_wait stub_echo_transmit, r15w",
    "    inc r15d",
    "    cmp cx, 3",
    "    jne stub_echo_recycle",
    "    stub_print 1f",
    "    stub_reset",
    "1:  .asciz \"closed\\n\"",
    "stub_echo_recycle:",
    "    movzx eax, word ptr [rip + stub_echo_receive + 0x102]",
    "    and eax, 7",
    "    lea rbx, [rip + stub_echo_receive + 0x104]",
    "    mov [rbx + rax * 2], bp",
    "    inc word ptr [rip + stub_echo_receive + 0x102]",
    "    stub_virtio_notify 0",
    "    inc r12d",
    "    jmp stub_echo_next",
    "stub_echo_nothing: .long 0",
    "stub_echo_handler:",
    "    stub_virtio_handler",
    "    .balign 16",
    "stub_echo_receive:",
    "    .set stub_echo_buffer, 0x200000",
    "    .rept 8",
    "    stub_descriptor stub_echo_buffer, 4096, 2, 0",
    "    .set stub_echo_buffer, stub_echo_buffer + 4096",
    "    .endr",
    "    .zero 0x80",
    "    .word 0, 8, 0, 1, 2, 3, 4, 5, 6, 7",
    "    .zero 0x100 - 10 * 2 + 0x100",
    "stub_echo_transmit: .zero 0x300",
    "stub_echo_events: .zero 0x300",
    "    stub_idt stub_echo_idt, stub_echo_pointer, stub_echo",
    "stub_echo_end:",
    //
    // The second processor begins in real mode at the page that the start-up interrupt names: 0x10.
    "stub_two_processors:",
    "    lea rsi, [rip + stub_second]",
    "    mov edi, 0x10000",
    "    mov ecx, 64", // more than it has
    "    rep movsb",
    "    mov ebx, 0xfee00000",
    "    mov dword ptr [rbx + 0xf0], 0x1ff",
    "    mov dword ptr [rbx + 0x310], 1 << 24",
    "    mov dword ptr [rbx + 0x300], 0x4500",
    "    mov dword ptr [rbx + 0x310], 1 << 24",
    "    mov dword ptr [rbx + 0x300], 0x4610",
    "    mov ebx, 0x11000",
    "1:  pause",
    "    cmp byte ptr [rbx], 1",
    "    jne 1b",
    "    stub_print 2f",
    "    stub_reset",
    "2:  .asciz \"first too\\n\"",
    "stub_second:",
    "    .code16",
    "    mov dx, 0x3f8",
    "    mov al, '2'",
    "    out dx, al",
    "    mov al, ' '",
    "    out dx, al",
    "    mov ax, 0x1100",
    "    mov ds, ax",
    "    mov byte ptr ds:[0], 1",
    "3:  hlt",
    "    jmp 3b",
    "    .code64",
    "stub_second_end:",
    "stub_two_processors_end:",
    //
    "stub_dots:",
    "    stub_putc '.'",
    "    jmp stub_dots",
    "stub_dots_end:",
    //
    "stub_tight_loop:",
    "    stub_print 2f",
    "1:  jmp 1b",
    "2:  .asciz \"loop\"",
    "stub_tight_loop_end:",
    //
    "stub_triple_fault:",
    "    ud2",
    "stub_triple_fault_end:",
    //
    "stub_nowhere:",
    "    mov eax, 0xe0000000",
    "    jmp rax",
    "stub_nowhere_end:",
    ".popsection",
);

global_asm!(include_str!("snapshot_guests.s"));

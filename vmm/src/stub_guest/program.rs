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
    /// Asks the serial port for an interrupt, and prints from the handler.
    interrupt,
    stub_interrupt,
    stub_interrupt_end
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

// What all programs share: printing, resetting, and an interrupt gate.
global_asm!(
    ".macro stub_putc value",
    "    mov dx, 0x3f8",
    "    mov al, \\value",
    "    out dx, al",
    ".endm",
    // Prints the zero-terminated text at `label`.
    ".macro stub_print label",
    "    lea rsi, [rip + \\label]",
    "    mov dx, 0x3f8",
    "97: lodsb",
    "    test al, al",
    "    jz 98f",
    "    out dx, al",
    "    jmp 97b",
    "98:",
    ".endm",
    // Pulls the keyboard controller's reset line and waits for the end.
    ".macro stub_reset",
    "    mov al, 0xfe",
    "    out 0x64, al",
    "99: jmp 99b",
    ".endm",
    // Routes interrupt line `irq` to vector 0x40 and that to the code at `handler`.
    // The two 8259 are masked: their lines lead to the processor as well, with vectors of their own.
    // Local APIC: bit 8 of the spurious vector register enables it. I/O APIC: registers 0x10 + 2n are line n's.
    ".macro stub_route irq, handler, idt, idt_pointer",
    "    lea rax, [rip + \\handler]",
    "    lea rbx, [rip + \\idt + 0x400]",
    "    mov [rbx], ax",
    "    mov word ptr [rbx + 2], 0x10",
    "    mov word ptr [rbx + 4], 0x8e00",
    "    shr rax, 16",
    "    mov [rbx + 6], ax",
    "    shr rax, 16",
    "    mov [rbx + 8], eax",
    "    lidt [rip + \\idt_pointer]",
    "    mov al, 0xff",
    "    out 0x21, al",
    "    out 0xa1, al",
    "    mov ebx, 0xfee00000",
    "    mov dword ptr [rbx + 0xf0], 0x1ff",
    "    mov ebx, 0xfec00000",
    "    mov dword ptr [rbx], 0x10 + 2 * \\irq",
    "    mov dword ptr [rbx + 0x10], 0x40",
    "    mov dword ptr [rbx], 0x11 + 2 * \\irq",
    "    mov dword ptr [rbx + 0x10], 0",
    ".endm",
    // Tells the local APIC that the interrupt is dealt with.
    ".macro stub_end_of_interrupt",
    "    mov ebx, 0xfee00000",
    "    mov dword ptr [rbx + 0xb0], 0",
    ".endm",
    // The table that a program with `stub_route` carries, up to vector 0x40; `start` is the program's first label.
    ".macro stub_idt idt, idt_pointer, start",
    "\\idt_pointer:",
    "    .word 0x40f",
    "    .quad 0x100000 + \\idt - \\start",
    "    .balign 16",
    "\\idt:",
    "    .zero 0x410",
    ".endm",
);

global_asm!(
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

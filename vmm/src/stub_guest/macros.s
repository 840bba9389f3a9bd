# What guests are written with. Included by every file of guests, for each is assembled by itself; once is enough
# where two of them are assembled together.

.ifndef stub_macros
.set stub_macros, 1

# What all programs share: printing, resetting, and an interrupt gate.
.macro stub_putc value
    mov dx, 0x3f8
    mov al, \value
    out dx, al
.endm
# Prints the zero-terminated text at `label`.
.macro stub_print label
    lea rsi, [rip + \label]
    mov dx, 0x3f8
97: lodsb
    test al, al
    jz 98f
    out dx, al
    jmp 97b
98:
.endm
# Pulls the keyboard controller's reset line and waits for the end.
.macro stub_reset
    mov al, 0xfe
    out 0x64, al
99: jmp 99b
.endm
# Routes interrupt line `irq` to vector 0x40 and that to the code at `handler`.
# The two 8259 are masked: their lines lead to the processor as well, with vectors of their own.
# Local APIC: bit 8 of the spurious vector register enables it. I/O APIC: registers 0x10 + 2n are line n's.
.macro stub_route irq, handler, idt, idt_pointer
    stub_gate 0x40, \handler, \idt
    lidt [rip + \idt_pointer]
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov ebx, 0xfec00000
    mov dword ptr [rbx], 0x10 + 2 * \irq
    mov dword ptr [rbx + 0x10], 0x40
    mov dword ptr [rbx], 0x11 + 2 * \irq
    mov dword ptr [rbx + 0x10], 0
.endm
# Points interrupt or exception `vector` to the code at `handler`.
.macro stub_gate vector, handler, idt
    lea rax, [rip + \handler]
    lea rbx, [rip + \idt + 16 * \vector]
    mov [rbx], ax
    mov word ptr [rbx + 2], 0x10
    mov word ptr [rbx + 4], 0x8e00
    shr rax, 16
    mov [rbx + 6], ax
    shr rax, 16
    mov [rbx + 8], eax
.endm
# Tells the local APIC that the interrupt is dealt with.
.macro stub_end_of_interrupt
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xb0], 0
.endm
# The table that a program with gates carries, up to vector 0x40; `start` is the program's first label.
.macro stub_idt idt, idt_pointer, start
\idt_pointer:
    .word 0x40f
    .quad 0x100000 + \idt - \start
    .balign 16
\idt:
    .zero 0x410
.endm

# A virtio driver (virtio 1.2, section 4.2). RDI is the device, the first one if not said otherwise; its line is 5.
# Up to FEATURES_OK, with VERSION_1 and nothing else.
.macro stub_virtio_begin device=0xd0000000
    mov edi, \device
    mov dword ptr [rdi + 0x70], 0
    mov dword ptr [rdi + 0x70], 1
    mov dword ptr [rdi + 0x70], 3
    mov dword ptr [rdi + 0x24], 0
    mov dword ptr [rdi + 0x20], 0
    mov dword ptr [rdi + 0x24], 1
    mov dword ptr [rdi + 0x20], 1
    mov dword ptr [rdi + 0x70], 11
.endm
# A queue of 8: descriptors at `queue`, available ring 0x100 behind, used ring 0x200 behind.
.macro stub_virtio_queue index, queue
    lea rax, [rip + \queue]
    mov dword ptr [rdi + 0x30], \index
    mov dword ptr [rdi + 0x38], 8
    mov [rdi + 0x80], eax
    mov dword ptr [rdi + 0x84], 0
    add eax, 0x100
    mov [rdi + 0x90], eax
    mov dword ptr [rdi + 0x94], 0
    add eax, 0x100
    mov [rdi + 0xa0], eax
    mov dword ptr [rdi + 0xa4], 0
    mov dword ptr [rdi + 0x44], 1
.endm
.macro stub_virtio_ready
    mov dword ptr [rdi + 0x70], 15
.endm
.macro stub_virtio_notify index
    mov dword ptr [rdi + 0x50], \index
.endm
# Sleeps until the used index of `queue` is no longer `value`; interrupts only wake it up.
.macro stub_virtio_wait queue, value
95: cmp word ptr [rip + \queue + 0x202], \value
    jne 96f
    sti
    hlt
    cli
    jmp 95b
96:
.endm
# The handler of the device's interrupt: acknowledges it.
.macro stub_virtio_handler
    push rax
    push rbx
    mov eax, [rdi + 0x60]
    mov [rdi + 0x64], eax
    stub_end_of_interrupt
    pop rbx
    pop rax
    iretq
.endm
.macro stub_descriptor address, length, flags, next
    .quad \address
    .long \length
    .word \flags, \next
.endm

.endif

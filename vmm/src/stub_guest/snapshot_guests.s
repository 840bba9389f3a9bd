// Guests of snapshot_program.rs, with the macros of program.rs.

.pushsection .rodata.stub_guests, "a"
.globl stub_letters, stub_letters_end
stub_letters:
    mov bl, 'z'
1:  mov al, [rip + stub_letters_next]
    mov cl, al
    dec cl
    cmp cl, bl
    je 2f
    cmp bl, 'z'
    jne 3f
    cmp al, 'a'
    jne 3f
2:  stub_putc al
    mov bl, al
    inc al
    cmp al, 'z' + 1
    jne 4f
    mov al, 'a'
4:  mov [rip + stub_letters_next], al
    jmp 1b
3:  stub_reset // Register and memory do not belong together.
stub_letters_next: .byte 'a'
stub_letters_end:

    .balign 16
.globl stub_disk_letters, stub_disk_letters_end
stub_disk_letters:
    stub_route 5, stub_disk_letters_handler, stub_disk_letters_idt, stub_disk_letters_pointer
    xor r12d, r12d
    stub_virtio_begin
    stub_virtio_queue 0, stub_disk_letters_queue
    stub_virtio_ready
1:  inc word ptr [rip + stub_disk_letters_queue + 0x102]
    stub_virtio_notify 0
    stub_virtio_wait stub_disk_letters_queue, r12w
    inc r12d
    cmp byte ptr [rip + stub_disk_letters_status], 0
    jne 2f
    stub_putc [rip+stub_disk_letters_data]
    jmp 1b
2:  stub_reset
stub_disk_letters_handler:
    stub_virtio_handler
stub_disk_letters_status: .byte 0xff
    .balign 16
stub_disk_letters_read: .long 0, 0
    .quad 0
stub_disk_letters_data: .zero 512
stub_disk_letters_queue:
    stub_descriptor 0x100000+stub_disk_letters_read-stub_disk_letters, 16, 1, 1
    stub_descriptor 0x100000+stub_disk_letters_data-stub_disk_letters, 512, 3, 2
    stub_descriptor 0x100000+stub_disk_letters_status-stub_disk_letters, 1, 2, 0
    .zero 0x100 - 3 * 16
    .zero 0x200 // available: chain 0, again and again
    stub_idt stub_disk_letters_idt, stub_disk_letters_pointer, stub_disk_letters
stub_disk_letters_end:

.globl stub_touch, stub_touch_end
stub_touch:
7:  pause
    mov ecx, ds:[0x6000]
    test ecx, ecx
    jz 7b
    mov edi, 0x800000
6:  mov word ptr [rdi], 0x0101
    add edi, ds:[0x6004]
    dec ecx
    jnz 6b
    stub_print 2f
1:  pause
    cmp byte ptr ds:[0x7000], 0
    je 1b
    mov edi, 0x800000
    mov ecx, ds:[0x6000]
4:  mov byte ptr [rdi], 2
    add edi, ds:[0x6004]
    dec ecx
    jnz 4b
    mov byte ptr ds:[0x7000], 0
    stub_print 3f
    jmp 1b
2:  .asciz "ready"
3:  .asciz "done"
stub_touch_end:
.popsection

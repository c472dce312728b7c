/* The do-nothing init of the bare guest: restarts the machine, which ends it, because hull's
   guests are started so that a restart ends them under every engine. */
        .globl _start
_start:
#if defined(__x86_64__)
        mov     $169, %eax              /* reboot */
        mov     $0xfee1dead, %edi
        mov     $0x28121969, %esi
        mov     $0x01234567, %edx       /* restart */
        xor     %r10d, %r10d
        syscall
        hlt
#elif defined(__aarch64__)
        mov     x8, #142                /* reboot */
        ldr     w0, =0xfee1dead
        ldr     w1, =0x28121969
        ldr     w2, =0x01234567
        mov     x3, #0
        svc     #0
        brk     #0
#endif
        .section .note.GNU-stack, "", %progbits

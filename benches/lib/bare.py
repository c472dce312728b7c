"""The bare kernel with an init that only switches the machine off: what `hull run` is measured against."""

import ctypes
import os
import platform
import subprocess
from pathlib import Path

INIT = r"""
/* Switches the machine off: sync, then reboot(POWER_OFF). No C library. */
static long call(long number, long a, long b, long c)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
#else
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#endif
}
void _start(void)
{
#if defined(__x86_64__)
    call(169, 0xfee1dead, 672274793, 0x4321fedc);
#else
    call(142, 0xfee1dead, 672274793, 0x4321fedc);
#endif
    for (;;)
        ;
}
"""
ADDR_NO_RANDOMIZE = 0x0040000


def initramfs(folder: Path, compiler: str = "gcc") -> Path:
    """A cpio archive whose /init is that program."""
    source, program, archive = folder / "off.c", folder / "off", folder / "off.cpio"
    source.write_text(INIT)
    subprocess.run([compiler, "-O2", "-static", "-nostdlib", "-nostartfiles", "-ffreestanding", "-o", program, source],
                   check=True)
    archive.write_bytes(entry("init", 0o100755, program.read_bytes()) + entry("TRAILER!!!", 0, b""))
    return archive


def entry(name: str, mode: int, data: bytes) -> bytes:
    """One file of a newc archive."""
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return pad(head) + pad(data)


def pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def uml(kernels: Path, archive: Path, memory: int) -> tuple[list[str], dict]:
    """User-mode Linux with the options that hull gives it; pinned, as hull pins it."""
    command = [str(kernels / "linux-um"), f"mem={memory}M", f"initrd={archive}", "rdinit=/init", "con=null",
               "con0=null,fd:1", "console=tty0", "quiet", "noreboot", "panic=-1", "lpj=36000000", "root=/dev/ram0"]

    def prepare() -> None:
        ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    return command, {"preexec_fn": prepare}


def tcg(kernels: Path, archive: Path, memory: int) -> tuple[list[str], dict]:
    """QEMU's translator with the options that hull gives it, without devices."""
    machine, cpu, kernel, append = {
        "x86_64": ("microvm,accel=tcg,x-option-roms=off,pit=on,pic=on,rtc=on,acpi=off", "max", "vmlinux-x86_64",
                   "console=ttyS0 reboot=t no_timer_check"),
        "aarch64": ("virt,accel=tcg,gic-version=3,its=off", "max,pauth-impdef=on", "Image-aarch64", "console=ttyAMA0"),
    }[platform.machine()]
    command = [f"qemu-system-{platform.machine()}", "-no-user-config", "-nodefaults", "-no-reboot", "-display", "none",
               "-machine", machine, "-accel", "tcg,tb-size=128", "-cpu", cpu, "-m", f"{memory}M", "-serial", "stdio",
               "-kernel", str(kernels / kernel), "-initrd", str(archive), "-append",
               f"{append} rdinit=/init quiet panic=-1 mitigations=off random.trust_cpu=on"]
    return command, {}

//! The C library's allocator, told to give back what is freed.

/// Makes large blocks go back to the system as soon as they are freed. To be called first of all.
///
/// glibc takes the largest block that was ever freed for the size from which blocks are worth giving back. After
/// some large commits it keeps all below 32 MiB, in pieces: in a flood that was up to a fifth of the memory.
pub fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: i32 = 1 << 20;
        // SAFETY: it sets a number, and no other thread is running that could allocate meanwhile.
        #[allow(unsafe_code)]
        let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
        // Refused, memory is as it would have been.
        debug_assert_eq!(set, 1);
    }
}

//! What the kernel says of this host.

/// Returns which run of the kernel this is; empty where nobody tells.
pub fn boot_id() -> String {
    // Read once: a process that confines itself has no way to it afterwards.
    static ID: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    };
    ID.get_or_init(read).clone()
}

/// Returns what people call this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the day of the week here, 0 for Sunday, and the minute of the day.
pub fn local_minute() -> (usize, u16) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
    // SAFETY: `parts` is plain data, which localtime_r fills.
    let parts = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        // Where it fails it is midnight of a Sunday.
        libc::localtime_r(&now, &mut parts);
        parts
    };
    let minute = parts.tm_hour * 60 + parts.tm_min;
    (usize::try_from(parts.tm_wday).unwrap_or(0), u16::try_from(minute).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_local_time_lies_within_a_week() {
        let (weekday, minute) = super::local_minute();
        assert!(weekday < 7 && minute < 24 * 60);
    }
}

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leaseboot_lm::fuzzing::run("dhcp6", bytes));

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leaseboot_po::fuzzing::run("dns_answer", bytes));

//! The binary: exit code only.

fn main() -> std::process::ExitCode {
    appliance_log_exporter::cli::main()
}

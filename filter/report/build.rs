//! Generates the message types from the proto file, without a protoc binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/report.proto");
    let files = protox::compile(["proto/report.proto"], ["proto"])?;
    // Ordered maps: equal windows must have equal bytes.
    prost_build::Config::new().btree_map(["."]).compile_fds(files)?;
    Ok(())
}

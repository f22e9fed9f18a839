//! The module's border: Envoy enters the VM for each callback that it exports, and refuses it for each import
//! that Envoy does not know.

use std::collections::BTreeSet;

use gma_tests::wasm_host;

#[test]
fn the_exports_are_exactly_those_of_the_readme() {
    let module = wasm_host::module().unwrap();
    let found: BTreeSet<_> = module.exports().map(|export| export.name()).collect();
    let expected = BTreeSet::from([
        "memory",
        "_initialize",
        "proxy_abi_version_0_2_1",
        "proxy_on_memory_allocate",
        "proxy_on_configure",
        "proxy_on_tick",
        "proxy_on_http_call_response",
        "proxy_on_log",
    ]);
    assert_eq!(found, expected);
}

#[test]
fn the_imports_are_envoys() {
    let module = wasm_host::module().unwrap();
    for import in module.imports() {
        let is_abi = import.module() == "env" && import.name().starts_with("proxy_");
        assert!(
            is_abi || import.module() == "wasi_snapshot_preview1",
            "{import:?}"
        );
    }
}

/// Agents fetch the module for each proxy; what it measures must not make it grow without notice.
#[test]
fn the_module_is_small() {
    let bytes = std::fs::metadata(wasm_host::module_path()).unwrap().len();
    assert!(bytes < 256 << 10, "{bytes} bytes");
}

/// The variant that tests load to lose a VM is built beside it, never in its place.
#[test]
fn nothing_in_the_module_ends_it_on_purpose() {
    let bytes = std::fs::read(wasm_host::module_path()).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"gma-filter "), "its own texts are found");
    assert!(!has(b"as a test asks"), "it is the variant that ends its VM");
}

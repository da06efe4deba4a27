//! Devices by name.
//!
//! Sources: memory of A40, A100 and H100 from microsoft/vidur (`vidur/config/device_sku_config.py`);
//! everything else from the data sheets as the system descriptions of aiconfigurator-core 0.12.0 give them.
//! A40: NVIDIA's data sheet (696 GB/s, 149.7 Tflop/s). MI300X: AMD's data sheet (192 GB, 5.3 TB/s, 1,307.4
//! Tflop/s in bf16, 2,614.9 in FP8, seven links of 64 GB/s one way). 4-bit floats: twice FP8 on Blackwell.

use super::{Device, Link};

/// With units for 4-bit floats, at twice the rate of FP8.
const fn with_fp4(mut device: Device) -> Device {
    if let Some(fp8) = device.peak_fp8_tflops {
        device.peak_fp4_tflops = Some(2.0 * fp8);
    }
    device
}

/// Memory GiB, memory GB/s, bf16 and FP8 Tflop/s (0: no FP8), link and inter-node GB/s.
const fn device(
    name: &'static str,
    aliases: &'static [&'static str],
    link: Link,
    figures: [f64; 6],
) -> Device {
    let [memory_gib, memory_gb_per_s, peak_bf16_tflops, fp8, link_gb_per_s, inter_node_gb_per_s] = figures;
    Device {
        name,
        aliases,
        memory_gib,
        memory_gb_per_s,
        peak_bf16_tflops,
        peak_fp8_tflops: if fp8 > 0.0 { Some(fp8) } else { None },
        peak_fp4_tflops: None,
        link_gb_per_s,
        link,
        inter_node_gb_per_s,
    }
}

pub const DEVICES: &[Device] = &[
    device("a40", &[], Link::Pcie, [45.0, 696.0, 149.7, 0.0, 32.0, 25.0]),
    device("a100", &["a100_sxm"], Link::NvLink, [80.0, 2039.0, 312.0, 0.0, 300.0, 25.0]),
    device("a100_pcie", &[], Link::Pcie, [80.0, 1935.0, 312.0, 0.0, 32.0, 25.0]),
    device("h100", &["h100_sxm"], Link::NvLink, [80.0, 3350.0, 989.0, 1978.0, 450.0, 50.0]),
    device("h100_pcie", &[], Link::Pcie, [80.0, 2000.0, 756.5, 1513.0, 64.0, 50.0]),
    device("h200", &["h200_sxm"], Link::NvLink, [141.0, 4800.0, 989.0, 1978.0, 450.0, 50.0]),
    with_fp4(device("b200", &["b200_sxm"], Link::NvLink, [180.0, 7700.0, 2250.0, 4500.0, 900.0, 100.0])),
    with_fp4(device("b300", &["b300_sxm"], Link::NvLink, [268.59, 7750.0, 2250.0, 4500.0, 900.0, 100.0])),
    with_fp4(device("gb200", &[], Link::NvLink, [185.03, 8000.0, 2500.0, 5000.0, 900.0, 900.0])),
    with_fp4(device("gb300", &[], Link::NvLink, [277.55, 8000.0, 2500.0, 5000.0, 900.0, 900.0])),
    device("l40s", &[], Link::Pcie, [44.99, 864.0, 362.05, 733.0, 32.0, 50.0]),
    with_fp4(device("rtx_pro_6000_server", &[], Link::Pcie, [95.59, 1792.0, 467.8, 935.6, 64.0, 50.0])),
    device("mi300x", &[], Link::NvLink, [192.0, 5300.0, 1307.4, 2614.9, 448.0, 50.0]),
    device("a30", &[], Link::Pcie, [24.0, 933.0, 165.0, 0.0, 32.0, 25.0]),
    device("l4", &[], Link::Pcie, [24.0, 300.0, 121.0, 242.0, 32.0, 25.0]),
    device("b60", &[], Link::Pcie, [24.0, 456.0, 98.3, 0.0, 28.4, 50.0]),
];

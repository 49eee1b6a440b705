"""NPUs and GPUs: published facts for projections. Ladder measured none of them."""

from __future__ import annotations

from ladder.hardware.devices import GB, Device, Fact

X_ELITE = "Snapdragon X Elite product brief (X1E-80-100)"
T_MAN = "T-MAN (arXiv 2511.11248), measured there on Snapdragon 8 Gen 3"
HEXAGON = "LLVM's Hexagon v73 packets: four instructions, of them one load, one vlut32, two vrmpy"
NO_CLOCK = "Qualcomm publishes no clock of the vector unit: 1 GHz is assumed, so read it per GHz"
OPENCL = "assumed: one 32-bit operation per lane and cycle, as in the TFLOPS figure"

NPU = Device(
    "snapdragon-x-elite-npu",
    "snapdragon-x-elite-npu",
    "Hexagon, 4 HVX contexts",
    4,
    Fact(1e9, NO_CLOCK),
    Fact(59 * GB, f"{T_MAN}: DMA from memory into the memory of the NPU"),
    Fact(0, "HVX loads bypass the first cache"),
    Fact(1024 * 1024, f"{T_MAN}: L2"),
    {
        "load": Fact(1, HEXAGON),
        "lookup": Fact(1, HEXAGON),
        "dot": Fact(2, HEXAGON),
        "vector": Fact(4, HEXAGON),
        "scalar": Fact(3, HEXAGON),
    },
)
GPU = Device(
    "snapdragon-x-elite-gpu",
    "snapdragon-x-elite-gpu",
    "Adreno X1-85, 1536 lanes",
    1536,
    Fact(1.25e9, f"{X_ELITE}: 3.8 TFLOPS are 1536 lanes x 2 x 1.25 GHz"),
    Fact(135 * GB, f"{X_ELITE}: LPDDR5x-8448, 128 bits, shared with the CPU"),
    Fact(0, "not published"),
    Fact(0, "not published"),
    {"lane": Fact(1, OPENCL)},
)

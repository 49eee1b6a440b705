"""Products for GPUs in OpenCL: a work item computes a row, a work group a tile of 64 rows.

``lut_gemm`` looks up in tables in local memory; ``dot_gemm`` dequantizes codes to bytes in
registers and multiplies four at a time. A group reads the weights once for ``tokens`` tokens: 1 for
decoding, 4 for a small batch. Operands: ``signature``.

The source needs ``PRELUDE`` before it: TVM emits neither the pragma against fused products nor
dot products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import scalar
from ladder.codegen.kernels.parameters import declare
from ladder.codegen.kernels.signature import TABLES, Operands, accelerator_operands, two_planes
from ladder.codegen.kernels.unpack import SHARED
from ladder.codegen.kernels.vector import Expr
from ladder.codegen.layout import CHUNK, LANES, TILE, Packing
from ladder.ir.element import DIGIT_OFFSET
from ladder.ir.numerics import LUT_GROUP

SMALL_BATCH = 4  # tokens whose sums one work item keeps
STAGE = 4  # chunks whose tables are in local memory together
QUADS = CHUNK // LUT_GROUP
ROW_BYTES = 0x01010101
BYTE_VALUES = 256

DIVIDE, DOT = "ladder_divide", "ladder_dot"
PRELUDE = """\
#pragma OPENCL FP_CONTRACT OFF

/* a / b for positive normal numbers, rounded to nearest, ties to even: OpenCL's own division may
   be 2.5 ulp off. A quotient below 2^-126 comes out as zero. */
inline float ladder_divide(float a, float b) {
  uint x = as_uint(a), y = as_uint(b);
  int exponent = (int)(x >> 23) - (int)(y >> 23) + 126;
  uint rest = (x & 0x7fffffu) | 0x800000u, by = (y & 0x7fffffu) | 0x800000u, quotient = 0u;
  if ((x >> 23) == 0u) return 0.0f;
  if (rest >= by) exponent += 1; else rest <<= 1;
  for (int i = 0; i < 25; ++i) { /* 24 bits, and one that rounds */
    quotient <<= 1;
    if (rest >= by) { rest -= by; quotient |= 1u; }
    rest <<= 1;
  }
  quotient = (quotient >> 1) + (quotient & ((quotient >> 1) | (uint)(rest != 0u)) & 1u);
  if (exponent <= 0) return 0.0f;
  return as_float(((uint)(exponent - 1) << 23) + quotient);
}

/* sum + four unsigned codes times four signed activations, a byte each */
inline int ladder_dot(int sum, int codes, int four) {
#if defined(__opencl_c_integer_dot_product_input_4x8bit_packed)
  return sum + dot_4x8packed_us_int(as_uint(codes), as_uint(four));
#elif defined(LADDER_QCOM_DOT8) /* cl_qcom_dot_product8: drivers differ in what they accept */
  return qcom_dot8_acc(as_uint(four), as_uint(codes), sum);
#else
  int4 products = convert_int4(as_uchar4(codes)) * convert_int4(as_char4(four));
  return sum + products.x + products.y + products.z + products.w;
#endif
}

"""

MACHINE = scalar.Machine(
    "opencl",
    lambda count, axis: T.thread_binding(count, thread=axis),
    lambda a, b: a * b,
    lambda a, b: T.call_pure_extern("float32", DIVIDE, a, b),
    "local",
)


@dataclass(frozen=True)
class Shared:
    """Tables that a whole group reads: a code book's digits, and the codes of every byte."""

    book: Any
    codes: Any


def _token(m: Expr, read: Any) -> Expr:
    """The token to read: after the last one, that is computed once more and not stored."""
    return T.min(m, read.shape[0] - 1)


def _batch(tokens: int) -> str:
    return "" if tokens == 1 else f"_m{tokens}"


def lut_gemm(packing: Packing, mode: str, tokens: int = 1) -> Any:
    """The product by look-ups in local memory."""
    scalar.check_mode(mode)
    split, bits = two_planes(mode), packing.bits
    name = f"lut_gemm_opencl_{mode}_{packing}{_batch(tokens)}"
    entry_type = "int16" if split else "int8"

    def entry_of(table: Any, m: Expr, chunk: Expr, at: Expr) -> Expr:
        if not split:
            return table[m, chunk, at]
        low = T.bitwise_and(T.cast(table[m, chunk, 0, at], "int32"), T.int32(255))
        high = T.shift_left(T.cast(table[m, chunk, 1, at], "int32"), T.int32(8))
        return T.cast(T.bitwise_or(high, low), "int16")

    def looked_up(entries: Any, first: Expr, word: Expr) -> Expr:
        total: Expr = T.int32(0)
        for j in range(LUT_GROUP):
            index = T.bitwise_and(T.shift_right(word, T.int32(8 * j)), T.int32(15))
            total = total + T.cast(entries[first + j * LANES + index], "int32")
        return total

    @T.inline
    def fill(entries, table, m, first, row):  # type: ignore[no-untyped-def]
        T.evaluate(T.tvm_storage_sync("shared"))
        for t in T.unroll(tokens):
            for i in T.serial(STAGE):
                if first + i < table.shape[1]:
                    at = T.meta_var((t * STAGE + i) * TABLES + row)
                    entries[at] = entry_of(table, _token(m + t, table), first + i, row)
        T.evaluate(T.tvm_storage_sync("shared"))

    @T.inline
    def add_chunk(sums, entries, planes, tile, chunk, i, row):  # type: ignore[no-untyped-def]
        for bit in T.serial(bits):
            half = T.meta_var(T.shift_right(row, T.int32(4)) % 2 * 4)
            word = T.meta_var(planes[tile, chunk, bit, row // 32, row % LANES])
            nibbles = T.alloc_buffer((1,), "int32", scope="local")
            nibbles[0] = T.shift_right(word, half)
            for t in T.unroll(tokens):
                found = T.meta_var(looked_up(entries, (t * STAGE + i) * TABLES, nibbles[0]))
                sums[t] = sums[t] + T.shift_left(found, bit)

    @T.inline
    def accumulate(sums, args, _shared, m, tile, first, count, row):  # type: ignore[no-untyped-def]
        entries = T.alloc_buffer((tokens * STAGE * TABLES,), entry_type, scope="shared")
        for s in T.serial(T.ceildiv(count, STAGE)):
            fill(entries, args.activation, m, first + s * STAGE, row)
            for i in T.serial(T.min(STAGE, count - s * STAGE)):
                add_chunk(sums, entries, args.planes, tile, first + s * STAGE + i, i, row)

    operands = accelerator_operands("lut_gemm", packing, mode)
    return _product(name, packing, mode, tokens, operands, accumulate)


def dot_gemm(packing: Packing, mode: str, tokens: int = 1) -> Any:
    """The product by dot products of dequantized codes with activation codes."""
    scalar.check_mode("int8")
    bits, parts, entries = packing.bits, max(packing.digits, 1), packing.entries
    name = f"dot_gemm_opencl_{packing}{_batch(tokens)}"

    def by_byte(find: Any, word: Expr) -> Expr:
        made: Expr = T.int32(0)
        for j in range(LUT_GROUP):
            byte = T.bitwise_and(T.shift_right(word, T.int32(8 * j)), T.int32(255))
            made = T.bitwise_or(made, T.shift_left(T.cast(find(byte), "int32"), T.int32(8 * j)))
        return made

    def quad_of(planes: Any, of_byte: Any, tile: Expr, chunk: Expr, i: Expr, row: Expr) -> Expr:
        if packing.shares_bytes:
            quad, lane, quads = chunk * QUADS + i, row % LANES, packing.kind.quads
            word = planes[tile, quad // quads, row // 32, row // LANES % 2, lane]
            shift, mask = quad % quads * bits, T.int32((1 << bits) - 1)
            return by_byte(
                lambda b: T.bitwise_and(T.shift_right(T.cast(of_byte[b], "int32"), shift), mask),
                word,
            )
        made: Expr = T.int32(0)
        for bit in range(bits):
            word = planes[tile, chunk, bit, row // 32, row % LANES]
            one = T.shift_right(word, row // LANES % 2 * 4 + i)
            one = T.bitwise_and(one, T.int32(ROW_BYTES))
            made = T.bitwise_or(made, T.shift_left(one, T.int32(bit)))
        return made

    def finish(book: Any, d: Expr, quad: Expr) -> Expr:
        return by_byte(lambda b: book[d * entries + b], quad) if packing.digits else quad

    @T.inline
    def accumulate(sums, args, shared, m, tile, first, count, row):  # type: ignore[no-untyped-def]
        q = T.meta_var(args.activation)
        for c in T.serial(count):
            for i in T.serial(QUADS):
                quad = T.alloc_buffer((1,), "int32", scope="local")
                four = T.alloc_buffer((tokens,), "int32", scope="local")
                quad[0] = quad_of(args.planes, shared.codes, tile, first + c, i, row)
                for t in T.unroll(tokens):
                    at = T.meta_var(T.ramp(i * LUT_GROUP, 1, LUT_GROUP))
                    bytes_ = T.meta_var(q[_token(m + t, q), first + c, at])
                    four[t] = T.reinterpret(bytes_, dtype="int32")
                for d in T.unroll(parts):
                    codes = T.alloc_buffer((1,), "int32", scope="local")
                    codes[0] = finish(shared.book, d, quad[0])
                    for t in T.unroll(tokens):
                        sums[d * tokens + t] = T.call_pure_extern(
                            "int32", DOT, sums[d * tokens + t], codes[0], four[t]
                        )

    operands = accelerator_operands("dot_gemm", packing, "int8")
    return _product(name, packing, "int8", tokens, operands, accumulate)


def _fill_shared(packing: Packing) -> Any:
    """Emits the tables of a whole group: the digits of a code book, the codes of every byte."""
    size, has_book = packing.digits * packing.entries, packing.digits > 0
    many = packing.shares_bytes
    is_shared = has_book or many
    of_byte: Any = SHARED[packing.storage].of_byte if many else None

    @T.inline
    def emit(shared, digits, row):  # type: ignore[no-untyped-def]
        book, codes = T.meta_var((shared.book, shared.codes))
        if has_book:
            for i in T.serial(T.ceildiv(size, TILE)):
                at = T.meta_var(i * TILE + row)
                if at < size:
                    book[at] = digits[at // packing.entries, at % packing.entries]
        if many:
            for i in T.serial(BYTE_VALUES // TILE):
                codes[i * TILE + row] = of_byte(i * TILE + row)
        if is_shared:
            T.evaluate(T.tvm_storage_sync("shared"))

    return emit


def _finished(parts: int, tokens: int, sums: Any, t: int, total: Expr) -> Expr:
    """A token's sum; those of a code book's digits are joined as in ``numerics.book_sums``."""
    whole: Expr = sums[t]
    for d in reversed(range(parts)):
        part = T.cast(sums[d * tokens + t] - T.int32(DIGIT_OFFSET) * total, "float32")
        whole = part if d == parts - 1 else whole * T.float32(256) + part
    return whole


def _add_block(packing: Packing, mode: str, tokens: int) -> Any:
    """Emits the addition of a block's sums to the float results."""
    parts = packing.digits

    @T.inline
    def add_block(result, sums, args, m, tile, block, row):  # type: ignore[no-untyped-def]
        for t in T.unroll(tokens):
            at = T.meta_var((_token(m + t, args.a_scale), block))
            total = T.meta_var(args.a_total[at[0], at[1]])
            whole = T.meta_var(_finished(parts, tokens, sums, t, total))
            result[t] = scalar.combined(
                MACHINE,
                packing,
                mode,
                args,
                result[t],
                whole,
                (tile, block, row),
                args.a_scale[at[0], at[1]],
                total,
            )

    return add_block


def _product(
    name: str, packing: Packing, mode: str, tokens: int, operands: Operands, accumulate: Any
) -> Any:
    """A product around ``accumulate``, which adds a block's products to ``sums`` [D, tokens]."""
    chunks, parts, entries = packing.chunks, packing.digits, packing.entries
    rows = max(parts, 1) * tokens
    book_size, codes_size = max(parts * entries, 1), BYTE_VALUES if packing.shares_bytes else 1
    fill, add_block = _fill_shared(packing), _add_block(packing, mode, tokens)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands, "int32"))
        M, N, C = T.meta_var((args.size.M, args.size.N, args.size.C))
        for tile in T.thread_binding(args.size.NT, thread="blockIdx.x"):
            for panel in T.thread_binding(T.ceildiv(M, tokens), thread="blockIdx.y"):
                for row in T.thread_binding(TILE, thread="threadIdx.x"):
                    book = T.alloc_buffer((book_size,), "uint8", scope="shared")
                    of_byte = T.alloc_buffer((codes_size,), "int16", scope="shared")
                    sums = T.alloc_buffer((rows,), "int32", scope="local")
                    result = T.alloc_buffer((tokens,), "float32", scope="local")
                    m = T.meta_var(panel * tokens)
                    shared = T.meta_var(Shared(book, of_byte))
                    fill(shared, args.digits, row)
                    for t in T.unroll(tokens):
                        result[t] = T.float32(0)
                    for block in T.serial(args.size.B):
                        first = T.meta_var(block * chunks)
                        for r in T.unroll(rows):
                            sums[r] = 0
                        accumulate(sums, args, shared, m, tile, first,
                                   T.min(chunks, C - first), row)  # fmt: skip
                        add_block(result, sums, args, m, tile, block, row)
                    for t in T.unroll(tokens):
                        if m + t < M and tile * TILE + row < N:
                            args.out[m + t, tile * TILE + row] = result[t]

    return kernel


PRODUCTS = {"dot_gemm": dot_gemm, "lut_gemm": lut_gemm}

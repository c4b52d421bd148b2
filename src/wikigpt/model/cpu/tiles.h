// Matrix products in squares of 32: with the processor's tile registers (Intel AMX) where it has them, elsewhere with
// torch's small products. Those reach 430 to 620 GFLOP/s on a core with AMX (32 to 256 rows and columns, depth 256),
// these 2,000 to 2,700.

#pragma once

#include <cstdlib>
#include <type_traits>

#include "vectors.h"

#if defined(__AVX512F__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WIKIGPT_TILES 1
#endif

namespace {

constexpr int64_t kPanel = 32;  // rows and columns of a product; its depth is a multiple

constexpr int64_t panels(int64_t n) { return (n + kPanel - 1) / kPanel; }

#ifdef WIKIGPT_TILES

// Eight tiles of 16 rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Whether there are tiles, and Linux lets this process use them. ONEDNN_MAX_CPU_ISA limits torch, and so us.
bool has_tiles() {
  static const bool has = [] {
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)
    return !std::getenv("ONEDNN_MAX_CPU_ISA") && __builtin_cpu_supports("amx-bf16") &&
           !syscall(SYS_arch_prctl, kRequestPermission, kTileData);
  }();
  return has;
}

// C [32, 32] = A B or C += A B; four tiles of C, two of A, two of B at a time. In each step A's 32 columns are `step`
// further, and `beside` is called.
template <typename F>
__attribute__((target("amx-tile,amx-bf16"))) void multiply_tiles(int64_t k, const BFloat16* a, int64_t lda,
                                                                 int64_t step, const BFloat16* b, float* c,
                                                                 int64_t ldc, bool add, F& beside) {
  const int64_t a_bytes = lda * sizeof *a, c_bytes = ldc * sizeof *c, b_bytes = kPanel * sizeof(Word);
  if (add) {
    _tile_loadd(0, c, c_bytes);
    _tile_loadd(1, c + 16, c_bytes);
    _tile_loadd(2, c + 16 * ldc, c_bytes);
    _tile_loadd(3, c + 16 * ldc + 16, c_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t i = 0; i < k; i += 32, a += step, b += 32 * kPanel) {
    _tile_loadd(4, a, a_bytes);
    _tile_loadd(6, b, b_bytes);
    _tile_loadd(7, b + 32, b_bytes);
    _tile_loadd(5, a + 16 * lda, a_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    beside();
  }
  _tile_stored(0, c, c_bytes);
  _tile_stored(1, c + 16, c_bytes);
  _tile_stored(2, c + 16 * ldc, c_bytes);
  _tile_stored(3, c + 16 * ldc + 16, c_bytes);
}

#endif

// What a thread holds while it multiplies panels.
struct Multiplier {
#ifdef WIKIGPT_TILES
  __attribute__((target("amx-tile"))) Multiplier() {
    static const TileConfig config;
    if (has_tiles()) _tile_loadconfig(&config);
  }
  __attribute__((target("amx-tile"))) ~Multiplier() {
    if (has_tiles()) _tile_release();
    blas::brgemm_release();
  }
#else
  ~Multiplier() { blas::brgemm_release(); }
#endif

  // C [32, 32] = A B, or C += A B; A [32, k] row by row, B [k, 32] in words, k a multiple of 32. Calls `beside` k / 32
  // times: what it does costs little, since the vector units are free while the tile registers multiply.
  template <typename T, typename F>
  void operator()(int64_t k, const T* a, int64_t lda, const T* b, float* c, int64_t ldc, bool add, F&& beside) const {
#ifdef WIKIGPT_TILES
    if constexpr (std::is_same_v<T, BFloat16>)
      if (has_tiles()) return multiply_tiles(k, a, lda, kPanel, b, c, ldc, add, beside);
#endif
    blas::brgemm(kPanel, kPanel, k, lda, kPanel, ldc, add, a, b, c);
    for (int64_t i = 0; i < k; i += kPanel) beside();
  }

  template <typename T>
  void operator()(int64_t k, const T* a, int64_t lda, const T* b, float* c, int64_t ldc, bool add) const {
    (*this)(k, a, lda, b, c, ldc, add, [] {});
  }

  // How many columns of a matrix A [32, k] lie together where `packed` reads it.
  template <typename T>
  static int64_t run(int64_t k) {
#ifdef WIKIGPT_TILES
    if (std::is_same_v<T, BFloat16> && has_tiles()) return kPanel;
#endif
    return k;
  }

  // The same with A in pieces [32, run(k)]: tiles read from the second cache 10 to 15 % faster in the order in which
  // they lie.
  template <typename T, typename F>
  void packed(int64_t k, const T* a, const T* b, float* c, int64_t ldc, bool add, F&& beside) const {
#ifdef WIKIGPT_TILES
    if constexpr (std::is_same_v<T, BFloat16>)
      if (has_tiles()) return multiply_tiles(k, a, kPanel, kPanel * kPanel, b, c, ldc, add, beside);
#endif
    (*this)(k, a, k, b, c, ldc, add, beside);
  }

  template <typename T>
  void packed(int64_t k, const T* a, const T* b, float* c, int64_t ldc, bool add) const {
    packed(k, a, b, c, ldc, add, [] {});
  }
};

}  // namespace

// Vectors, transpositions and small matrix products that the operators of this folder are made of.
//
// The right-hand matrix of a bf16 product comes in words of two rows (VNNI order), as the processor's matrix
// instructions read it; in fp32 a word is one number.

#pragma once

#include <ATen/native/CPUBlas.h>
#include <omp.h>
#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <utility>
#include <vector>

// What each thread keeps from call to call, so that no call waits for fresh pages; all operators share it.
inline thread_local std::vector<char> wikigpt_thread_memory;
// What `Memory` has made sure of for each of the threads that work for this one.
inline thread_local size_t wikigpt_granted = 0;
inline thread_local int wikigpt_threads = 0;

namespace {

namespace blas = at::native::cpublas;
using BFloat16 = at::BFloat16;

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// GCC's vectors.
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef uint32_t Word __attribute__((may_alias));

template <typename V>
V load(const void* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename V>
void store(void* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

Words splat(int32_t x) { return Words{} + static_cast<uint32_t>(x); }

Floats larger(Floats a, Floats b) {
#ifdef __AVX512DQ__
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}

// 2^x for x <= 126, to 3e-7: the whole part goes into the exponent, the rest into a polynomial that is 1 at 0 and
// close to 2^f on [-1/2, 1/2] (fitted at Chebyshev's points). NaN stays NaN. AVX512 has an instruction for either part;
// the others give 2^-126 where x is less.
Floats exp2(Floats x) {
#ifdef __AVX512DQ__
  Floats f = (Floats)_mm512_reduce_ps((__m512)x, 0);
#else
  x = x < -126.0f ? Floats{} - 126.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers
  Floats shifted = x + kRound;
  Floats f = x - (shifted - kRound);
#endif
  Floats p = f * 1.33908674e-3f + 9.66637369e-3f;
  p = p * f + 5.55035710e-2f;
  p = p * f + 2.40223489e-1f;
  p = p * f + 6.93147188e-1f;
  p = p * f + 1.0f;
#ifdef __AVX512DQ__
  return (Floats)_mm512_scalef_ps((__m512)p, (__m512)(x - f));
#else
  return (Floats)((Words)p + ((Words)shifted << 23));
#endif
}

// bf16 in the upper half of each lane, rounded to nearest (ties away from zero).
Words rounded(Floats x) { return (Words)x + 0x8000u; }

template <typename T>
constexpr int64_t kPair = sizeof(Word) / sizeof(T);  // rows in a word

void store_row(float* to, Floats x) { store(to, x); }
void store_row(BFloat16* to, Floats x) { store(to, __builtin_convertvector(rounded(x) >> 16, Halves)); }

Floats load_row(const float* from) { return load<Floats>(from); }
Floats load_row(const BFloat16* from) {
  return (Floats)(__builtin_convertvector(load<Halves>(from), Words) << 16);
}

// Two vectors that follow one another in a row.
void store_line(float* to, Floats a, Floats b) {
  store(to, a);
  store(to + kLanes, b);
}
template <int... lane>
Words upper_halves(Words a, Words b, std::integer_sequence<int, lane...>) {
  typedef uint16_t Parts __attribute__((vector_size(4 * kLanes)));
  return (Words)__builtin_shuffle((Parts)a, (Parts)b, Parts{(2 * lane + 1)...});
}
void store_line(BFloat16* to, Floats a, Floats b) {
  store(to, upper_halves(rounded(a), rounded(b), std::make_integer_sequence<int, 2 * kLanes>()));
}

// Numbers of two rows as words of bf16, those of the first row in the lower halves.
Words in_words(Floats a, Floats b) { return rounded(a) >> 16 | (rounded(b) & 0xffff0000u); }

// Calls `f` for every vector of a row of n numbers, then for the numbers that are left: with the position, and with
// what reads there from the start of a row.
template <typename F>
void along_row(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, [i](const auto* row) { return load_row(row + i); });
  for (; i < n; i++) f(i, [i](const auto* row) { return static_cast<float>(row[i]); });
}

template <int... lane>
float total(Floats x, std::integer_sequence<int, lane...>) {
  x += __builtin_shuffle(x, Words{lane ^ 1 ...});
  x += __builtin_shuffle(x, Words{lane ^ 2 ...});
  if constexpr (kLanes > 4) x += __builtin_shuffle(x, Words{lane ^ 4 ...});
  if constexpr (kLanes > 8) x += __builtin_shuffle(x, Words{lane ^ 8 ...});
  return x[0];
}

// The sum of all lanes.
float total(Floats x) { return total(x, std::make_integer_sequence<int, kLanes>()); }

// Asks the cache for n numbers that will be read or written some rows later: a head is too short a piece of memory
// for the processor to foresee the next.
template <int write, int locality = 3, typename T>
void fetch(const T* at, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(at + i, write, locality);
}

constexpr int64_t kAhead = 16;  // rows between asking for memory and its use

// C = A B, or C += A B; A [m, k] and C [m, n] row by row, B [k, n] in words.
template <typename T>
void multiply(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, float* c, bool add) {
  blas::brgemm(m, n, k, lda, n, n, add, a, b, c);
}

template <typename T>
bool multiplies() {
  T a[256] = {}, b[256] = {};
  float c[256];
  try {
    multiply(16, 16, 16, a, 16, b, c, false);
  } catch (const std::exception&) {
    return false;
  }
  blas::brgemm_release();
  return true;
}

// One step of the transposition of a square of vectors: exchanges the off-diagonal corners, `step` wide, of all
// squares of twice that width.
template <int step, int... lane>
void exchange(Words* rows, std::integer_sequence<int, lane...>) {
  for (int i = 0; i < kLanes; i++) {
    if (i & step) continue;
    Words a = rows[i], b = rows[i + step];
    rows[i] = __builtin_shuffle(a, b, Words{(lane & step ? kLanes + lane - step : lane)...});
    rows[i + step] = __builtin_shuffle(a, b, Words{(lane & step ? kLanes + lane : lane + step)...});
  }
}

// Rows of words to columns of words: from [n, m] to [m, n].
void transpose(const Word* from, int64_t ld_from, int64_t n, int64_t m, Word* to, int64_t ld_to) {
  const auto lanes = std::make_integer_sequence<int, kLanes>();
  const int64_t whole_n = n / kLanes * kLanes, whole_m = m / kLanes * kLanes;
  for (int64_t i = 0; i < whole_n; i += kLanes)
    for (int64_t j = 0; j < whole_m; j += kLanes) {
      Words rows[kLanes];
      for (int r = 0; r < kLanes; r++) rows[r] = load<Words>(from + (i + r) * ld_from + j);
      exchange<1>(rows, lanes);
      exchange<2>(rows, lanes);
      if constexpr (kLanes > 4) exchange<4>(rows, lanes);
      if constexpr (kLanes > 8) exchange<8>(rows, lanes);
      for (int r = 0; r < kLanes; r++) store(to + (j + r) * ld_to + i, rows[r]);
    }
  for (int64_t j = 0; j < m; j++)
    for (int64_t i = j < whole_m ? whole_n : 0; i < n; i++) to[j * ld_to + i] = from[i * ld_from + j];
}

// Rows [n, m] to words of kPair rows [n / kPair, m]; a missing last row counts as zeros.
void pair_rows(const float* from, int64_t ld, int64_t n, int64_t m, Word* to) {
  for (int64_t i = 0; i < n; i++) std::memcpy(to + i * m, from + i * ld, m * sizeof(float));
}

void pair_rows(const BFloat16* from, int64_t ld, int64_t n, int64_t m, Word* to) {
  auto bits = reinterpret_cast<const uint16_t*>(from);
  for (int64_t i = 0; i < n; i += 2) {
    const uint16_t *low = bits + i * ld, *high = low + ld;
    bool last = i + 1 == n;
    Word* row = to + i / 2 * m;
    int64_t j = 0;
    for (; j + kLanes <= m; j += kLanes) {
      Words h = last ? Words{} : __builtin_convertvector(load<Halves>(high + j), Words);
      store(row + j, __builtin_convertvector(load<Halves>(low + j), Words) | h << 16);
    }
    for (; j < m; j++) row[j] = low[j] | (last ? 0u : static_cast<uint32_t>(high[j]) << 16);
  }
}

// Hands out pieces of memory; passed by value, so that what a function took is free again after it.
struct Scratch {
  char* next;

  template <typename T>
  T* take(int64_t n) {
    char* place = next;
    next += (n * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(place);
  }
};

Scratch thread_scratch(size_t bytes) {
  auto& memory = wikigpt_thread_memory;
  if (memory.size() < bytes + 64) {
    std::vector<char>().swap(memory);
    memory.resize(bytes + 64);
  }
  return {memory.data() + 64 - reinterpret_cast<uintptr_t>(memory.data()) % 64};
}

// Memory that all threads of a parallel region share, and some for each of them.
struct Memory {
  Scratch shared;
  size_t own;

  // Throws std::bad_alloc here, where Python can be told: within a parallel region nothing may be thrown.
  Memory(size_t shared_bytes, size_t own_bytes, int n_threads) : own(own_bytes) {
    if (n_threads != wikigpt_threads || own_bytes > wikigpt_granted) {
      bool failed = false;
      wikigpt_granted = 0;
#pragma omp parallel num_threads(n_threads) reduction(|| : failed)
      try {
        thread_scratch(own_bytes);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      if (failed) throw std::bad_alloc();
      wikigpt_threads = n_threads;
      wikigpt_granted = own_bytes;
    }
    shared = thread_scratch(shared_bytes + own_bytes);
  }

  Scratch of_thread() const { return omp_get_thread_num() == 0 ? shared : thread_scratch(own); }
};

// What `run` returns, or kNoMemory, which Python raises as MemoryError.
constexpr int64_t kNoMemory = INT32_MIN;

template <typename F>
int64_t guarded(F run) {
  try {
    return run();
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}

}  // namespace

// One step of Muon (Jordan et al. 2024) for a list of matrices, each by one thread: what the Newton-Schulz
// steps multiply is small, and as single operators of torch takes five times as long. `muon.py` calls this file.

#include "vectors.h"

namespace {

constexpr int64_t kPad = 32;  // zeros up to a multiple of this change no product and spare the products their edges
constexpr int64_t kRows = 32;  // rows of a product at a time

int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

struct Settings {
  float learning_rate, weight_decay, momentum, a, b, c, epsilon;
  int32_t n_steps;
};

// A matrix [n_rows, n_columns], its gradient and momentum, fp32 row by row, and the learning rate's factor for its shape.
struct Matrix {
  float *parameter, *momentum;
  const float* gradient;
  int64_t n_rows, n_columns;
  float factor;
};

// C = A B, some rows at a time, which `then(first, how many, their C)` finds in the cache; A [m, k] row by row, B [k, n]
// in words.
template <typename T, typename F>
void product(int64_t m, int64_t n, int64_t k, const T* a, const T* b, Scratch scratch, F then) {
  float* c = scratch.take<float>(kRows * n);
  for (int64_t i = 0; i < m; i += kRows) {
    const int64_t rows = std::min(kRows, m - i);
    multiply(rows, n, k, a + i * k, k, b, c, false);
    then(i, rows, c);
  }
}

// x = a x + b y, in floats, and rounded to T where products read it.
template <typename T>
void combine(float* x, float a, const float* y, float b, int64_t n, T* to) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Floats sum = load<Floats>(x + i) * a + load<Floats>(y + i) * b;
    store(x + i, sum);
    store_row(to + i, sum);
  }
}

// X, [m, n] with m <= n, gets singular values around 1; `scale` X has none above it.
template <typename T>
void orthogonalize(float* x, float scale, int64_t m, int64_t n, const Settings& s, Scratch scratch) {
  T *rows = scratch.take<T>(m * n), *words = scratch.take<T>(m * n);
  T *gram_rows = scratch.take<T>(m * m), *gram_words = scratch.take<T>(m * m), *mix = scratch.take<T>(m * m);
  float* gram = scratch.take<float>(m * m);
  combine(x, scale, x, 0.0f, m * n, rows);
  for (int32_t step = 0; step < s.n_steps; step++) {
    transpose(reinterpret_cast<const Word*>(rows), n / kPair<T>, m, n / kPair<T>, reinterpret_cast<Word*>(words), m);
    product(m, m, n, rows, words, scratch, [&](int64_t i, int64_t count, const float* c) {
      std::memcpy(gram + i * m, c, count * m * sizeof(float));
      for (int64_t j = 0; j < count * m; j += kLanes) store_row(gram_rows + i * m + j, load<Floats>(c + j));
      pair_rows(gram_rows + i * m, m, count, m, reinterpret_cast<Word*>(gram_words + i * m));
    });
    product(m, m, m, gram_rows, gram_words, scratch, [&](int64_t i, int64_t count, const float* c) {
      combine(gram + i * m, s.b, c, s.c, count * m, mix + i * m);
    });
    pair_rows(rows, n, m, n, reinterpret_cast<Word*>(words));
    product(m, n, m, mix, words, scratch, [&](int64_t i, int64_t count, const float* c) {
      combine(x + i * n, s.a, c, 1.0f, count * n, rows + i * n);
    });
  }
}

template <typename T>
void step(const Matrix& matrix, const Settings& s, Scratch scratch) {
  const int64_t r = matrix.n_rows, c = matrix.n_columns, size = r * c;
  const bool tall = r > c;
  const int64_t m = padded(std::min(r, c)), n = padded(std::max(r, c));
  float *update = scratch.take<float>(size), *x = scratch.take<float>(m * n);
  float* momentum = matrix.momentum;
  const float *gradient = matrix.gradient, blend = 1 - s.momentum;
  // Nesterov's momentum, moved towards the gradient once more.
  auto move = [&](auto at, auto g, auto& update_i) {
    auto moved = at + (g - at) * blend;
    update_i = g + (moved - g) * s.momentum;
    return moved;
  };
  double squares = 0;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    Floats u;
    store(momentum + i, move(load<Floats>(momentum + i), load<Floats>(gradient + i), u));
    store(update + i, u);
    u *= u;
    float sum = 0;
    for (int lane = 0; lane < kLanes; lane++) sum += u[lane];
    squares += sum;
  }
  for (; i < size; i++) {
    momentum[i] = move(momentum[i], gradient[i], update[i]);
    squares += update[i] * update[i];
  }
  const float scale = 1 / std::max(static_cast<float>(std::sqrt(squares)), s.epsilon);
  if (m * n > size) std::fill_n(x, m * n, 0.0f);
  if (tall) {
    transpose(reinterpret_cast<const Word*>(update), c, r, c, reinterpret_cast<Word*>(x), n);
  } else {
    for (int64_t row = 0; row < r; row++) std::memcpy(x + row * n, update + row * c, c * sizeof(float));
  }
  orthogonalize<T>(x, scale, m, n, s, scratch);
  if (tall) transpose(reinterpret_cast<const Word*>(x), n, c, r, reinterpret_cast<Word*>(update), c);
  const float keep = 1 - s.learning_rate * s.weight_decay, rate = s.learning_rate * matrix.factor;
  for (int64_t row = 0; row < r; row++) {
    const float* from = tall ? update + row * c : x + row * n;
    float* to = matrix.parameter + row * c;
    for (int64_t i = 0; i < c; i++) to[i] = to[i] * keep - from[i] * rate;
  }
}

template <typename T>
void steps(const Matrix* matrices, int64_t count, const Settings& s, int n_threads) {
  size_t bytes = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t r = padded(matrices[i].n_rows), c = padded(matrices[i].n_columns), m = std::min(r, c);
    bytes = std::max<size_t>(bytes, 16 * r * c + 16 * m * m + 4 * kRows * std::max(r, c) + 4096);
  }
  const Memory memory(0, bytes, n_threads);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) step<T>(matrices[i], s, scratch);
    blas::brgemm_release();
  }
}

}  // namespace

extern "C" int64_t wikigpt_muon(int bf16, const Matrix* matrices, int64_t count, const Settings* settings,
                                int n_threads) {
  return guarded([&] {
    (bf16 ? steps<BFloat16> : steps<float>)(matrices, count, *settings, n_threads);
    return 0;
  });
}

// One step of Muon (Jordan et al. 2024) for a list of matrices, each by one thread: what the Newton-Schulz
// steps multiply is small, and as single operators of torch takes five times as long. `muon.py` calls this file.

#include "vectors.h"

namespace {

constexpr int64_t kPad = 32;  // zeros up to a multiple of this change no product and spare the products their edges
constexpr int64_t kRows = 64;  // rows of a product at a time

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

// C = A B; A [m, k], C [m, n] row by row, B [k, n] in words.
template <typename T>
void product(int64_t m, int64_t n, int64_t k, const T* a, const T* b, float* c) {
  for (int64_t i = 0; i < m; i += kRows) multiply(std::min(kRows, m - i), n, k, a + i * k, k, b, c + i * n, false);
}

// x = a x + b y, both in floats; rounded to T where products read it.
template <typename T>
void combine(float* x, float a, const float* y, float b, int64_t n, T* to) {
  for (int64_t i = 0; i < n; i += kLanes) {
    Floats sum = load<Floats>(x + i) * a + load<Floats>(y + i) * b;
    store(x + i, sum);
    store_row(to + i, sum);
  }
}

// X, [m, n] with m <= n, gets singular values around 1.
template <typename T>
void orthogonalize(float* x, int64_t m, int64_t n, const Settings& s, Scratch scratch) {
  T *rows = scratch.take<T>(m * n), *words = scratch.take<T>(m * n), *columns = scratch.take<T>(m * n);
  T *gram_rows = scratch.take<T>(m * m), *gram_words = scratch.take<T>(m * m);
  float *gram = scratch.take<float>(m * m), *square = scratch.take<float>(m * m), *y = scratch.take<float>(m * n);
  combine(x, 1.0f, x, 0.0f, m * n, rows);
  for (int32_t step = 0; step < s.n_steps; step++) {
    transpose(reinterpret_cast<const Word*>(rows), n / kPair<T>, m, n / kPair<T>, reinterpret_cast<Word*>(columns), m);
    product(m, m, n, rows, columns, gram);
    combine(gram, 1.0f, gram, 0.0f, m * m, gram_rows);
    pair_rows(gram_rows, m, m, m, reinterpret_cast<Word*>(gram_words));
    product(m, m, m, gram_rows, gram_words, square);
    combine(gram, s.b, square, s.c, m * m, gram_rows);
    pair_rows(rows, n, m, n, reinterpret_cast<Word*>(words));
    product(m, n, m, gram_rows, words, y);
    combine(x, s.a, y, 1.0f, m * n, rows);
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
  for (int64_t j = 0; j < size; j++) update[j] *= scale;
  std::fill_n(x, m * n, 0.0f);
  if (tall) {
    transpose(reinterpret_cast<const Word*>(update), c, r, c, reinterpret_cast<Word*>(x), n);
  } else {
    for (int64_t row = 0; row < r; row++) std::memcpy(x + row * n, update + row * c, c * sizeof(float));
  }
  orthogonalize<T>(x, m, n, s, scratch);
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
    bytes = std::max<size_t>(bytes, 24 * r * c + 16 * m * m + 4096);
  }
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = thread_scratch(bytes);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) step<T>(matrices[i], s, scratch);
    blas::brgemm_release();
  }
}

}  // namespace

extern "C" void wikigpt_muon(int bf16, const Matrix* matrices, int64_t count, const Settings* settings, int n_threads) {
  if (bf16) {
    steps<BFloat16>(matrices, count, *settings, n_threads);
  } else {
    steps<float>(matrices, count, *settings, n_threads);
  }
}

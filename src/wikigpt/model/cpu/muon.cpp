// One step of Muon (Jordan et al. 2024) for a list of matrices, each by one thread: what the Newton-Schulz
// steps multiply is small, and as single operators of torch takes several times as long. Matrices are cut into squares
// of 32; of the symmetric ones those below the diagonal are not computed, but turned. `muon.py` calls this file.

#include "tiles.h"

namespace {

constexpr int64_t kSquare = kPanel * kPanel;

int64_t padded(int64_t n) { return panels(n) * kPanel; }  // zeros at the end change no product

struct Settings {
  float learning_rate, weight_decay, momentum, a, b, c, epsilon;
  int32_t n_steps;
};

// A matrix [n_rows, n_columns], its gradient and momentum, fp32 row by row, and the rate's factor for its shape.
struct Matrix {
  float *parameter, *momentum;
  const float* gradient;
  int64_t n_rows, n_columns;
  float factor;
};

// A matrix as the left-hand side of products, in panels of 32 rows with k columns.
template <typename T>
struct Left {
  T* data;
  int64_t k, run = Multiplier::run<T>(k);

  const T* panel(int64_t i) const { return data + i * kPanel * k; }
  T* square(int64_t i, int64_t j) const { return data + i * kPanel * k + (run == k ? j * kPanel : j * kSquare); }
};

// A matrix as the right-hand side of products, in words, in panels of 32 columns with k rows.
template <typename T>
struct Right {
  T* data;
  int64_t k;

  const T* panel(int64_t j) const { return data + j * kPanel * k; }
  Word* square(int64_t i, int64_t j) const { return reinterpret_cast<Word*>(data + j * kPanel * k + i * kSquare); }
};

// A square [32, 32] of floats into `to`.
template <typename T>
void round_square(const float* square, const Left<T>& to, int64_t i, int64_t j) {
  T* row = to.square(i, j);
  for (int64_t at = 0; at < kSquare; at += kPanel, row += to.run)
    for (int64_t lane = 0; lane < kPanel; lane += kLanes) store_row(row + lane, load<Floats>(square + at + lane));
}

template <typename T>
void to_words(const Left<T>& from, int64_t i, int64_t j, Word* to) {
  pair_rows(from.square(i, j), from.run, kPanel, kPanel, to);
}

// A square of the transpose, in words: words are pairs of rows there, of columns here.
template <typename T>
void to_turned_words(const Left<T>& from, int64_t i, int64_t j, Word* to) {
  transpose(reinterpret_cast<const Word*>(from.square(i, j)), from.run / kPair<T>, kPanel, kPanel / kPair<T>, to,
            kPanel);
}

template <typename T>
void from_turned_words(const Word* from, const Left<T>& to, int64_t i, int64_t j) {
  transpose(from, kPanel, kPanel / kPair<T>, kPanel, reinterpret_cast<Word*>(to.square(i, j)), to.run / kPair<T>);
}

// X, [m, n] with m <= n in squares, row by row of them, gets singular values around 1; it has none above it.
template <typename T>
void orthogonalize(const Multiplier& multiply, float* x, int64_t m, int64_t n, const Settings& s, Scratch scratch) {
  const int64_t height = m / kPanel, width = n / kPanel;
  const Left<T> rows{scratch.take<T>(m * n), n}, gram_rows{scratch.take<T>(m * m), m}, mix{scratch.take<T>(m * m), m};
  const Right<T> turned{scratch.take<T>(m * n), n}, gram_words{scratch.take<T>(m * m), m};
  const Right<T> panel{scratch.take<T>(m * kPanel), m};
  float *gram = scratch.take<float>(m * m), *square = scratch.take<float>(kSquare);
  Word* words = scratch.take<Word>(kSquare);
  auto at = [&](int64_t i, int64_t j) { return x + (i * width + j) * kSquare; };
  for (int64_t i = 0; i < height; i++)
    for (int64_t j = 0; j < width; j++) {
      round_square(at(i, j), rows, i, j);
      to_turned_words(rows, i, j, turned.square(j, i));
    }
  for (int32_t step = 0; step < s.n_steps; step++) {
    for (int64_t i = 0; i < height; i++)  // A = X X^T
      for (int64_t j = i; j < height; j++) {
        float* to = gram + (i * height + j) * kSquare;
        multiply.packed(n, rows.panel(i), turned.panel(j), to, kPanel, false);
        round_square(to, gram_rows, i, j);
        to_words(gram_rows, i, j, gram_words.square(i, j));
        if (i == j) continue;
        from_turned_words(gram_words.square(i, j), gram_rows, j, i);
        to_turned_words(gram_rows, i, j, gram_words.square(j, i));
      }
    for (int64_t i = 0; i < height; i++)  // B = b A + c A A
      for (int64_t j = i; j < height; j++) {
        const float* from = gram + (i * height + j) * kSquare;
        multiply.packed(m, gram_rows.panel(i), gram_words.panel(j), square, kPanel, false);
        for (int64_t k = 0; k < kSquare; k += kLanes)
          store(square + k, load<Floats>(from + k) * s.b + load<Floats>(square + k) * s.c);
        round_square(square, mix, i, j);
        if (i == j) continue;
        to_words(mix, i, j, words);
        from_turned_words(words, mix, j, i);
      }
    for (int64_t j = 0; j < width; j++) {  // X = a X + B X
      for (int64_t i = 0; i < height; i++) to_words(rows, i, j, panel.square(i, 0));
      for (int64_t i = 0; i < height; i++) {
        float* to = at(i, j);
        multiply.packed(m, mix.panel(i), panel.panel(0), square, kPanel, false);
        for (int64_t k = 0; k < kSquare; k += kLanes)
          store(to + k, load<Floats>(to + k) * s.a + load<Floats>(square + k));
        if (step + 1 == s.n_steps) continue;
        round_square(to, rows, i, j);
        to_turned_words(rows, i, j, turned.square(j, i));
      }
    }
  }
}

template <typename T>
void step(const Multiplier& multiply, const Matrix& matrix, const Settings& s, Scratch scratch) {
  const int64_t r = matrix.n_rows, c = matrix.n_columns, size = r * c;
  const bool tall = r > c;
  const int64_t m = padded(std::min(r, c)), n = padded(std::max(r, c));
  float *update = scratch.take<float>(size), *x = scratch.take<float>(m * n), *square = scratch.take<float>(kSquare);
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
  while (i + kLanes <= size) {
    Floats sum{};
    for (const int64_t end = std::min(size - kLanes, i + kSquare); i <= end; i += kLanes) {
      Floats u;
      store(momentum + i, move(load<Floats>(momentum + i), load<Floats>(gradient + i), u));
      store(update + i, u);
      sum += u * u;
    }
    squares += total(sum);
  }
  for (; i < size; i++) {
    momentum[i] = move(momentum[i], gradient[i], update[i]);
    squares += update[i] * update[i];
  }
  const float scale = 1 / std::max(static_cast<float>(std::sqrt(squares)), s.epsilon);
  // Visits the squares of X with the rows and columns of the matrix that each is made of, and where these begin.
  auto each_square = [&](auto visit) {
    for (int64_t row = 0; row < r; row += kPanel)
      for (int64_t column = 0; column < c; column += kPanel) {
        const int64_t i = (tall ? column : row) / kPanel, j = (tall ? row : column) / kPanel;
        visit(x + (i * (n / kPanel) + j) * kSquare, std::min(kPanel, r - row), std::min(kPanel, c - column),
              row * c + column);
      }
  };
  auto turn = [](const float* from, float* to) {
    transpose(reinterpret_cast<const Word*>(from), kPanel, kPanel, kPanel, reinterpret_cast<Word*>(to), kPanel);
  };
  each_square([&](float* of_x, int64_t rows, int64_t columns, int64_t start) {
    float* to = tall ? square : of_x;
    if (rows * columns < kSquare) std::fill_n(to, kSquare, 0.0f);
    for (int64_t row = 0; row < rows; row++)
      for (int64_t i = 0; i < columns; i++) to[row * kPanel + i] = update[start + row * c + i] * scale;
    if (tall) turn(square, of_x);
  });
  orthogonalize<T>(multiply, x, m, n, s, scratch);
  const float keep = 1 - s.learning_rate * s.weight_decay, rate = s.learning_rate * matrix.factor;
  each_square([&](const float* of_x, int64_t rows, int64_t columns, int64_t start) {
    if (tall) turn(of_x, square);
    const float* from = tall ? square : of_x;
    float* to = matrix.parameter + start;
    for (int64_t row = 0; row < rows; row++, from += kPanel, to += c)
      for (int64_t i = 0; i < columns; i++) to[i] = to[i] * keep - from[i] * rate;
  });
}

template <typename T>
void steps(const Matrix* matrices, int64_t count, const Settings& s, int n_threads) {
  size_t bytes = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t r = padded(matrices[i].n_rows), c = padded(matrices[i].n_columns), m = std::min(r, c);
    bytes = std::max<size_t>(bytes, 16 * r * c + 16 * m * m + 4 * kPanel * m + 12 * kSquare + 4096);
  }
  const Memory memory(0, bytes, n_threads);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
    Multiplier multiply;
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) step<T>(multiply, matrices[i], s, scratch);
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

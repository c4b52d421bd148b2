// The half block x + down(silu(gate(n)) * up(n)), n = RMSNorm(x), of Llama and Qwen3 in one pass over tiles of rows.
//
// A tile of rows stays in the cache through all products, and a block of the hidden units at a time, so that
// weights of any size stream by once a tile. The backward pass computes the hidden units again from x. It leaves
// h and the gradients of gate and up of a few tiles, as words of two rows: what each weight's gradient, summed over
// these rows, is the product of; threads share first the tiles, then the weights.
// Inside, widths are rounded up to panels of 32, with zeros. `mlp.py` calls this file.

#include <omp.h>

#include "tiles.h"

namespace {

constexpr int64_t kTileRows = 256;    // at most, in a tile
constexpr int64_t kBlock = 8;         // panels of hidden units in a block
constexpr int64_t kTilesAtATime = 2;  // of a thread, before the weights' gradients are summed
constexpr int64_t kGroup = 4;         // panels of a weight's gradient that a thread sums at a time
constexpr int64_t kSquare = kPanel * kPanel;
constexpr float kLog2E = 1.44269504f;

struct Shape {
  int64_t n_rows, width, hidden;
  float eps;
};

// How an operator is cut into pieces.
struct Layout {
  int64_t n_rows, width, hidden, width_panels, hidden_panels, tile_rows, n_tiles;
  float eps;

  Layout(const Shape& s, int n_threads)
      : n_rows(s.n_rows), width(s.width), hidden(s.hidden), width_panels(panels(width)),
        hidden_panels(panels(hidden)), eps(s.eps) {
    tile_rows = std::clamp<int64_t>(panels((n_rows + n_threads - 1) / n_threads) * kPanel, kPanel, kTileRows);
    n_tiles = (n_rows + tile_rows - 1) / tile_rows;
  }

  int64_t padded_width() const { return width_panels * kPanel; }
  int64_t padded_hidden() const { return hidden_panels * kPanel; }
  int64_t rows(int64_t tile) const { return std::min(tile_rows, n_rows - tile * tile_rows); }
  int64_t padded_rows(int64_t tile) const { return panels(rows(tile)) * kPanel; }
  int64_t tile_size() const { return tile_rows * padded_width(); }
  int64_t weight_size() const { return padded_hidden() * padded_width(); }
  int64_t block(int64_t first_panel) const { return std::min(kBlock, hidden_panels - first_panel); }
};

// A square of a weight [rows, columns], in T, with zeros outside.
template <typename T>
void cut_square(const float* weight, int64_t rows, int64_t columns, int64_t row, int64_t column, T* to) {
  const int64_t n = std::min(kPanel, rows - row), m = std::min(kPanel, columns - column);
  if (n < kPanel || m < kPanel) std::fill_n(to, kSquare, T(0.0f));
  for (int64_t i = 0; i < n; i++) {
    const float* from = weight + (row + i) * columns + column;
    int64_t j = 0;
    for (; j + kLanes <= m; j += kLanes) store_row(to + i * kPanel + j, load<Floats>(from + j));
    for (; j < m; j++) to[i * kPanel + j] = static_cast<T>(from[j]);
  }
}

// W as the right-hand side of a product: its squares, each in words, in the order that `place(row, column)` says.
template <typename T, typename Place>
void pack(const float* weight, int64_t rows, int64_t columns, bool transposed, T* to, Place place) {
  alignas(64) T square[kSquare];
#pragma omp for schedule(static) nowait
  for (int64_t i = 0; i < panels(rows); i++)
    for (int64_t j = 0; j < panels(columns); j++) {
      cut_square(weight, rows, columns, i * kPanel, j * kPanel, square);
      auto words = reinterpret_cast<Word*>(to + place(i, j) * kSquare);
      if (transposed)
        transpose(reinterpret_cast<const Word*>(square), kPanel / kPair<T>, kPanel, kPanel / kPair<T>, words, kPanel);
      else
        pair_rows(square, kPanel, kPanel, kPanel, words);
    }
}

float sum(Floats x) {
  float total = 0;
  for (int i = 0; i < kLanes; i++) total += x[i];
  return total;
}

// sum(f(i)) of vectors from `whole`, of numbers from `rest`.
template <typename Whole, typename Rest>
float sum_row(int64_t n, Whole whole, Rest rest) {
  Floats sums{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sums += whole(i);
  float total = sum(sums);
  for (; i < n; i++) total += rest(i);
  return total;
}

// Rows of a tile in T, with zeros around; `to` [padded rows, padded width].
template <typename T, typename Whole, typename Rest>
void write_row(int64_t width, int64_t padded, T* to, Whole whole, Rest rest) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store_row(to + i, whole(i));
  for (; i < width; i++) to[i] = static_cast<T>(rest(i));
  for (; i < padded; i++) to[i] = T(0.0f);
}

// n = x / rms(x) * gain of a tile; 1 / rms(x) of each row into `scale` if that is wanted.
template <typename T>
void normalise(const Layout& l, int64_t tile, const float* x, const float* gain, T* n, float* scale) {
  const int64_t padded = l.padded_width(), rows = l.rows(tile);
  x += tile * l.tile_rows * l.width;
  for (int64_t row = 0; row < rows; row++, x += l.width) {
    float squares = sum_row(l.width, [&](int64_t i) { return load<Floats>(x + i) * load<Floats>(x + i); },
                            [&](int64_t i) { return x[i] * x[i]; });
    float r = 1 / std::sqrt(squares / l.width + l.eps);
    write_row(l.width, padded, n + row * padded,
              [&](int64_t i) { return load<Floats>(x + i) * r * load<Floats>(gain + i); },
              [&](int64_t i) { return x[i] * r * gain[i]; });
    if (scale) scale[row] = r;
  }
  std::fill(n + rows * padded, n + l.padded_rows(tile) * padded, T(0.0f));
}

// dx = dy + what dn means for x, and the sums of dgain over the rows of a tile.
void norm_gradient(const Layout& l, int64_t tile, const float* x, const float* gain, const float* dy, const float* dn,
                   const float* scale, float* dx, float* dgain) {
  std::fill_n(dgain, l.width, 0.0f);
  for (int64_t row = 0; row < l.rows(tile); row++) {
    const int64_t at = (tile * l.tile_rows + row) * l.width;
    const float *from = x + at, *residual = dy + at, *line = dn + row * l.padded_width(), r = scale[row];
    float mean = r / l.width * sum_row(l.width, [&](int64_t i) {
      return load<Floats>(line + i) * load<Floats>(gain + i) * load<Floats>(from + i);
    }, [&](int64_t i) { return line[i] * gain[i] * from[i]; });
    write_row(l.width, l.width, dgain, [&](int64_t i) {
      return load<Floats>(dgain + i) + load<Floats>(line + i) * load<Floats>(from + i) * r;
    }, [&](int64_t i) { return dgain[i] + line[i] * from[i] * r; });
    write_row(l.width, l.width, dx + at, [&](int64_t i) {
      return load<Floats>(residual + i) + (load<Floats>(line + i) * load<Floats>(gain + i) -
                                           load<Floats>(from + i) * (r * mean)) * r;
    }, [&](int64_t i) { return residual[i] + (line[i] * gain[i] - from[i] * (r * mean)) * r; });
  }
}

// One row of words from the rows that it is made of.
void store_words(float* to, const Floats* rows) { store(to, rows[0]); }
void store_words(BFloat16* to, const Floats* rows) { store(to, rounded(rows[0]) >> 16 | (rounded(rows[1]) & 0xffff0000u)); }

Floats sigmoid(Floats x) {
  Floats power = x * -kLog2E;
  Floats sum = 1.0f + exp2(power > 126.0f ? Floats{} + 126.0f : power);
#ifdef __AVX512F__
  Floats guess = (Floats)_mm512_rcp14_ps((__m512)sum);  // and a step of Newton: half the time of a division
  return guess * (2.0f - sum * guess);
#else
  return 1.0f / sum;
#endif
}

// h = silu(g) u of a square.
template <typename T>
void hidden_square(const float* g, const float* u, T* h, int64_t stride) {
  for (int64_t row = 0; row < kPanel; row++)
    for (int64_t i = 0; i < kPanel; i += kLanes) {
      Floats a = load<Floats>(g + row * kPanel + i);
      store_row(h + row * stride + i, a * sigmoid(a) * load<Floats>(u + row * kPanel + i));
    }
}

template <typename T>
void forward(const Layout& l, const float* x, const float* gain, const float* gate, const float* up,
             const float* down, float* out, int n_threads) {
  const int64_t padded = l.padded_width(), size = l.weight_size();
  const size_t shared_bytes = 3 * (size * sizeof(T) + 64);
  const size_t own_bytes = l.tile_size() * (sizeof(T) + sizeof(float)) +
                           kSquare * (2 * sizeof(float) + kBlock * sizeof(T)) + 1024;
  Scratch shared = thread_scratch(shared_bytes + own_bytes);
  T *gate_words = shared.take<T>(size), *up_words = shared.take<T>(size), *down_words = shared.take<T>(size);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = omp_get_thread_num() ? thread_scratch(own_bytes) : shared;
    auto by_panel = [&](int64_t unit, int64_t i) { return unit * l.width_panels + i; };
    pack(gate, l.hidden, l.width, true, gate_words, by_panel);
    pack(up, l.hidden, l.width, true, up_words, by_panel);
    pack(down, l.width, l.hidden, true, down_words, [&](int64_t i, int64_t unit) {
      int64_t first = unit / kBlock * kBlock;
      return first * l.width_panels + i * l.block(first) + unit - first;
    });
#pragma omp barrier
    T *n = scratch.take<T>(l.tile_size()), *h = scratch.take<T>(kPanel * kBlock * kPanel);
    float *g = scratch.take<float>(kSquare), *u = scratch.take<float>(kSquare);
    float* y = scratch.take<float>(l.tile_size());
    Multiplier multiply;
#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < l.n_tiles; tile++) {
      const int64_t rows = l.padded_rows(tile);
      normalise(l, tile, x, gain, n, nullptr);
      for (int64_t first = 0; first < l.hidden_panels; first += kBlock)
        for (int64_t row = 0; row < rows; row += kPanel) {
          const int64_t n_panels = l.block(first), depth = n_panels * kPanel;
          for (int64_t p = 0; p < n_panels; p++) {
            const int64_t at = (first + p) * kPanel * padded;
            multiply(padded, n + row * padded, padded, gate_words + at, g, kPanel, false);
            multiply(padded, n + row * padded, padded, up_words + at, u, kPanel, false);
            hidden_square(g, u, h + p * kPanel, depth);
          }
          for (int64_t p = 0; p < l.width_panels; p++)
            multiply(depth, h, depth, down_words + first * kPanel * padded + p * depth * kPanel,
                     y + row * padded + p * kPanel, padded, first > 0);
        }
      for (int64_t row = 0; row < l.rows(tile); row++) {
        const float *from = x + (tile * l.tile_rows + row) * l.width, *add = y + row * padded;
        write_row(l.width, l.width, out + (from - x),
                  [&](int64_t i) { return load<Floats>(from + i) + load<Floats>(add + i); },
                  [&](int64_t i) { return from[i] + add[i]; });
      }
    }
  }
}

// X^T [padded width, rows] of X [rows, padded width].
template <typename T>
void transpose_tile(const T* x, int64_t rows, int64_t width, T* words, T* to) {
  for (int64_t row = 0; row < rows; row += kPanel) {
    pair_rows(x + row * width, width, kPanel, width, reinterpret_cast<Word*>(words));
    transpose(reinterpret_cast<const Word*>(words), width, kPanel / kPair<T>, width, reinterpret_cast<Word*>(to + row),
              rows / kPair<T>);
  }
}

// Where a square leaves h and the gradients of gate and up: the gradients as rows, all as words of two rows.
template <typename T>
struct Hidden {
  T *h_words, *gate_words, *up_words, *gate_rows, *up_rows;
  int64_t stride;  // of the rows
};

// h = silu(g) u and what dh means for g and u.
template <typename T>
void gradient_square(const float* g, const float* u, const float* dh, Hidden<T> to) {
  for (int64_t row = 0; row < kPanel; row += kPair<T>)
    for (int64_t i = 0; i < kPanel; i += kLanes) {
      Floats h[2], dg[2], du[2];
      for (int64_t r = 0; r < kPair<T>; r++) {
        const int64_t at = (row + r) * kPanel + i;
        Floats a = load<Floats>(g + at), b = load<Floats>(u + at), d = load<Floats>(dh + at);
        Floats s = sigmoid(a), silu = a * s;
        h[r] = silu * b;
        du[r] = d * silu;
        dg[r] = d * b * (s + silu * (1.0f - s));
        store_row(to.gate_rows + (row + r) * to.stride + i, dg[r]);
        store_row(to.up_rows + (row + r) * to.stride + i, du[r]);
      }
      const int64_t at = row * kPanel + i * kPair<T>;
      store_words(to.h_words + at, h);
      store_words(to.gate_words + at, dg);
      store_words(to.up_words + at, du);
    }
}

// Rows [n, m] of a square to where they belong, or added to what is there.
void write_square(const float* from, int64_t n, int64_t m, float* to, int64_t ld_to, bool add) {
  for (int64_t row = 0; row < n; row++, from += kPanel, to += ld_to)
    write_row(m, m, to, [&](int64_t i) { return add ? load<Floats>(to + i) + load<Floats>(from + i) : load<Floats>(from + i); },
              [&](int64_t i) { return add ? to[i] + from[i] : from[i]; });
}

// Null pointers for what is not wanted: dx and dgain, or any weight's gradient.
struct Gradients {
  float *dx, *dgain, *dgate, *dup, *ddown;
};

template <typename T>
void backward(const Layout& l, const float* x, const float* gain, const float* gate, const float* up,
              const float* down, const float* dy, const Gradients& to, int n_threads) {
  const int64_t padded = l.padded_width(), size = l.weight_size(), hidden_size = l.tile_rows * l.padded_hidden();
  const int64_t at_a_time = std::min<int64_t>(l.n_tiles, n_threads * kTilesAtATime);
  const bool weights = to.dgate || to.dup || to.ddown;
  const size_t shared_bytes = sizeof(T) * (5 * size + at_a_time * (2 * l.tile_size() + 3 * hidden_size)) +
                              sizeof(float) * l.n_tiles * l.width + 1024;
  const size_t own_bytes = l.tile_size() * (2 * sizeof(T) + sizeof(float)) + l.tile_rows * sizeof(float) +
                           kSquare * (2 * kBlock * sizeof(T) + 4 * sizeof(float)) +
                           padded * kPanel * (sizeof(T) + kGroup * sizeof(float)) + 2048;
  Scratch shared = thread_scratch(shared_bytes + own_bytes);
  T *gate_words = shared.take<T>(size), *up_words = shared.take<T>(size), *down_words = shared.take<T>(size);
  T* back_words = shared.take<T>(2 * size);
  T *n_turned = shared.take<T>(at_a_time * l.tile_size()), *dy_turned = shared.take<T>(at_a_time * l.tile_size());
  T* h_words = shared.take<T>(at_a_time * hidden_size);
  T *dgate_words = shared.take<T>(at_a_time * hidden_size), *dup_words = shared.take<T>(at_a_time * hidden_size);
  float* dgains = shared.take<float>(l.n_tiles * l.width);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = omp_get_thread_num() ? thread_scratch(own_bytes) : shared;
    auto by_panel = [&](int64_t unit, int64_t i) { return unit * l.width_panels + i; };
    pack(gate, l.hidden, l.width, true, gate_words, by_panel);
    pack(up, l.hidden, l.width, true, up_words, by_panel);
    pack(down, l.width, l.hidden, false, down_words, [&](int64_t i, int64_t unit) { return by_panel(unit, i); });
    for (bool second : {false, true})  // of a block, gate and then up
      pack(second ? up : gate, l.hidden, l.width, false, back_words, [&](int64_t unit, int64_t i) {
        int64_t first = unit / kBlock * kBlock, n_panels = l.block(first);
        return 2 * (first * l.width_panels + i * n_panels) + second * n_panels + unit - first;
      });
#pragma omp barrier
    T *n = scratch.take<T>(l.tile_size()), *dy_rows = scratch.take<T>(l.tile_size());
    T *block_rows = scratch.take<T>(2 * kBlock * kSquare), *words = scratch.take<T>(padded * kPanel);
    float *g = scratch.take<float>(kSquare), *u = scratch.take<float>(kSquare), *dh = scratch.take<float>(kSquare);
    float *dn = scratch.take<float>(l.tile_size()), *scale = scratch.take<float>(l.tile_rows);
    float *sums = scratch.take<float>(padded * kGroup * kPanel), *turned = scratch.take<float>(kSquare);
    Multiplier multiply;
    for (int64_t begin = 0; begin < l.n_tiles; begin += at_a_time) {
      const int64_t end = std::min(l.n_tiles, begin + at_a_time);
#pragma omp for schedule(static)
      for (int64_t tile = begin; tile < end; tile++) {
        const int64_t rows = l.padded_rows(tile), slot = tile - begin;
        normalise(l, tile, x, gain, n, scale);
        const float* from = dy + tile * l.tile_rows * l.width;
        for (int64_t row = 0; row < l.rows(tile); row++, from += l.width)
          write_row(l.width, padded, dy_rows + row * padded, [&](int64_t i) { return load<Floats>(from + i); },
                    [&](int64_t i) { return from[i]; });
        std::fill(dy_rows + l.rows(tile) * padded, dy_rows + rows * padded, T(0.0f));
        if (weights) {
          transpose_tile(n, rows, padded, words, n_turned + slot * l.tile_size());
          transpose_tile(dy_rows, rows, padded, words, dy_turned + slot * l.tile_size());
        }
        for (int64_t first = 0; first < l.hidden_panels; first += kBlock)
          for (int64_t row = 0; row < rows; row += kPanel) {
            const int64_t n_panels = l.block(first), depth = 2 * n_panels * kPanel;
            for (int64_t p = first; p < first + n_panels; p++) {
              const int64_t at = p * kPanel * padded, left = slot * hidden_size + p * rows * kPanel + row * kPanel;
              multiply(padded, n + row * padded, padded, gate_words + at, g, kPanel, false);
              multiply(padded, n + row * padded, padded, up_words + at, u, kPanel, false);
              multiply(padded, dy_rows + row * padded, padded, down_words + at, dh, kPanel, false);
              T* gate_rows = block_rows + (p - first) * kPanel;
              gradient_square<T>(g, u, dh, {h_words + left, dgate_words + left, dup_words + left, gate_rows,
                                            gate_rows + n_panels * kPanel, depth});
            }
            for (int64_t p = 0; to.dx && p < l.width_panels; p++)
              multiply(depth, block_rows, depth, back_words + 2 * first * kPanel * padded + p * depth * kPanel,
                       dn + row * padded + p * kPanel, padded, first > 0);
          }
        if (to.dx) norm_gradient(l, tile, x, gain, dy, dn, scale, to.dx, dgains + tile * l.width);
      }
      if (!weights) continue;
      const int64_t groups = (l.hidden_panels + kGroup - 1) / kGroup;
#pragma omp for schedule(static)
      for (int64_t task = 0; task < 3 * groups; task++) {
        const int64_t first = task / 3 * kGroup, last = std::min(first + kGroup, l.hidden_panels), weight = task % 3;
        float* out = weight == 0 ? to.dgate : weight == 1 ? to.dup : to.ddown;
        if (!out) continue;
        const T* left = weight == 2 ? dy_turned : n_turned;
        const T* right = weight == 0 ? dgate_words : weight == 1 ? dup_words : h_words;
        for (int64_t tile = begin; tile < end; tile++) {
          const int64_t rows = l.padded_rows(tile), slot = tile - begin;
          float* square = sums;
          for (int64_t i = 0; i < padded; i += kPanel)
            for (int64_t p = first; p < last; p++, square += kSquare)
              multiply(rows, left + slot * l.tile_size() + i * rows, rows,
                       right + slot * hidden_size + p * rows * kPanel, square, kPanel, slot > 0);
        }
        const float* square = sums;
        for (int64_t i = 0; i < padded; i += kPanel)
          for (int64_t p = first; p < last; p++, square += kSquare) {
            const int64_t j = p * kPanel, n_width = std::min(kPanel, l.width - i), n_hidden = std::min(kPanel, l.hidden - j);
            if (weight == 2) {
              write_square(square, n_width, n_hidden, out + i * l.hidden + j, l.hidden, begin > 0);
            } else {
              transpose(reinterpret_cast<const Word*>(square), kPanel, kPanel, kPanel,
                        reinterpret_cast<Word*>(turned), kPanel);
              write_square(turned, n_hidden, n_width, out + j * l.width + i, l.width, begin > 0);
            }
          }
      }
    }
    if (to.dx)
#pragma omp for schedule(static)
      for (int64_t i = 0; i < l.width; i++) {
        float total = 0;
        for (int64_t tile = 0; tile < l.n_tiles; tile++) total += dgains[tile * l.width + i];
        to.dgain[i] = total;
      }
  }
}

}  // namespace

extern "C" {

void wikigpt_norm_swiglu_forward(int bf16, const Shape* s, const float* x, const float* gain, const float* gate,
                                 const float* up, const float* down, float* out, int n_threads) {
  Layout layout(*s, n_threads);
  (bf16 ? forward<BFloat16> : forward<float>)(layout, x, gain, gate, up, down, out, n_threads);
}

void wikigpt_norm_swiglu_backward(int bf16, const Shape* s, const float* x, const float* gain, const float* gate,
                                  const float* up, const float* down, const float* dy, float* dx, float* dgain,
                                  float* dgate, float* dup, float* ddown, int n_threads) {
  Layout layout(*s, n_threads);
  (bf16 ? backward<BFloat16> : backward<float>)(layout, x, gain, gate, up, down, dy,
                                                {dx, dgain, dgate, dup, ddown}, n_threads);
}
}

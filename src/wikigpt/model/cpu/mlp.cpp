// The half block x + down(silu(gate(n)) * up(n)), n = RMSNorm(x), of Llama and Qwen3 in one pass over tiles of rows.
//
// A tile of rows stays in the cache through all products, and a block of the hidden units at a time, so that
// weights of any size stream by once a tile. The backward pass computes the hidden units again from x. It leaves
// h and the gradients of gate and up of a few tiles, as words of two rows: factors of the weights' gradients, which
// are then summed over these rows. Threads share first the tiles, then the weights, so that no thread holds sums of
// its own.
//
// Inside, widths are rounded up to panels of 32, with zeros. `mlp.py` calls this file.

#include "tiles.h"

namespace {

constexpr int64_t kRowsAtATime = 512;  // of a thread, before they are summed into the weights' gradients
constexpr int64_t kGroupSize = 3072;   // of panels of hidden units, times the width: sums of 400 KB
constexpr int64_t kSquare = kPanel * kPanel;
constexpr float kLog2E = 1.44269504f;

struct Shape {
  int64_t n_rows, width, hidden;
  float eps;
};

// How an operator is cut into pieces, of sizes for an L2 cache of 1 to 2 MB: a tile's rows with their gradients fill
// half of it, a block of the weights in all forms the other half.
struct Layout {
  int64_t n_rows, width, hidden, width_panels, hidden_panels, tile_rows, n_tiles;
  int64_t block;  // panels of hidden units that a tile goes through at a time
  int64_t group;  // panels of a weight's gradient that a thread sums at a time
  float eps;

  Layout(const Shape& s, int n_threads)
      : n_rows(s.n_rows), width(s.width), hidden(s.hidden), width_panels(panels(width)),
        hidden_panels(panels(hidden)), eps(s.eps) {
    const int64_t share = panels((n_rows + n_threads - 1) / n_threads) * kPanel;
    tile_rows = std::min(share, std::clamp<int64_t>(262144 / padded_width() / kPanel * kPanel, 64, 256));
    n_tiles = (n_rows + tile_rows - 1) / tile_rows;
    block = std::clamp<int64_t>(2048 / padded_width(), 4, 16);
    const int64_t groups = std::max<int64_t>((n_threads + 2) / 3, hidden_panels * padded_width() / kGroupSize + 1);
    group = (hidden_panels + groups - 1) / groups;
  }

  int64_t padded_width() const { return width_panels * kPanel; }
  int64_t padded_hidden() const { return hidden_panels * kPanel; }
  int64_t rows(int64_t tile) const { return std::min(tile_rows, n_rows - tile * tile_rows); }
  int64_t padded_rows(int64_t tile) const { return panels(rows(tile)) * kPanel; }
  int64_t tile_size() const { return tile_rows * padded_width(); }
  int64_t weight_size() const { return padded_hidden() * padded_width(); }
  int64_t strip_size() const { return kPanel * std::max(padded_width(), padded_hidden()); }  // a weight's rows

  // The end of the block of hidden panels that contains panel p.
  int64_t block_end(int64_t p) const { return std::min(p / block * block + block, hidden_panels); }

  // Where a square of a weight lies, p along the hidden units, i along the width: panels of hidden units one after
  // the other, or blocks of them, in each of which panels of the width follow one another.
  int64_t at(int64_t p, int64_t i) const { return (p * width_panels + i) * kSquare; }
  int64_t in_block(int64_t p, int64_t i) const {
    const int64_t first = p / block * block;
    return (first * width_panels + i * (block_end(p) - first) + p - first) * kSquare;
  }
};

// to[i] = value(i) for i < n; zeros up to `padded`.
template <typename T, typename Value>
void write_row(int64_t n, int64_t padded, T* to, Value value) {
  along_row(n, [&](int64_t i, auto at) {
    auto x = value(at);
    if constexpr (std::is_same_v<decltype(x), float>)
      to[i] = x;
    else
      store_row(to + i, x);
  });
  std::fill(to + n, to + padded, T(0.0f));
}

// The sum of value(i); several sums at a time, since one would wait for each addition.
template <typename Value>
float sum_row(int64_t n, Value value) {
  constexpr int kSums = 4;
  Floats sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kLanes <= n; i += kSums * kLanes)
    for (int k = 0; k < kSums; k++)
      sums[k] += value([at = i + k * kLanes](const float* row) { return load<Floats>(row + at); });
  for (; i + kLanes <= n; i += kLanes) sums[0] += value([i](const float* row) { return load<Floats>(row + i); });
  float rest = 0;
  for (; i < n; i++) rest += value([i](const float* row) { return row[i]; });
  return rest + total((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// A weight [rows, columns] in words, square by square. `turned(i, j)` says where square (i, j) goes for products with
// W^T, `straight(i, j)` where for products with W; null: nowhere. Threads share the rows.
template <typename T, typename Turned, typename Straight>
void pack(const float* weight, int64_t rows, int64_t columns, Scratch scratch, Turned turned, Straight straight) {
  const int64_t padded = panels(columns) * kPanel;
  T* strip = scratch.take<T>(kPanel * padded);
#pragma omp for schedule(static) nowait
  for (int64_t i = 0; i < panels(rows); i++) {
    for (int64_t row = 0; row < kPanel; row++) {
      const int64_t at = i * kPanel + row;
      write_row(at < rows ? columns : 0, padded, strip + row * padded,
                [&](auto read) { return read(weight + at * columns); });
    }
    for (int64_t j = 0; j < panels(columns); j++) {
      const T* square = strip + j * kPanel;
      if (T* to = turned(i, j))
        transpose(reinterpret_cast<const Word*>(square), padded / kPair<T>, kPanel, kPanel / kPair<T>,
                  reinterpret_cast<Word*>(to), kPanel);
      if (T* to = straight(i, j)) pair_rows(square, padded, kPanel, kPanel, reinterpret_cast<Word*>(to));
    }
  }
}

// n = x / rms(x) * gain of a tile; 1 / rms(x) of each row into `scale` if that is wanted.
template <typename T>
void normalise(const Layout& l, int64_t tile, const float* x, const float* gain, T* n, float* scale) {
  const int64_t padded = l.padded_width(), rows = l.rows(tile);
  x += tile * l.tile_rows * l.width;
  for (int64_t row = 0; row < rows; row++, x += l.width) {
    const float squares = sum_row(l.width, [&](auto at) { return at(x) * at(x); });
    const float r = 1 / std::sqrt(squares / l.width + l.eps);
    write_row(l.width, padded, n + row * padded, [&](auto at) { return at(x) * r * at(gain); });
    if (scale) scale[row] = r;
  }
  std::fill(n + rows * padded, n + l.padded_rows(tile) * padded, T(0.0f));
}

// dx = dy + what dn means for x, and the sums of dgain over the rows of a tile.
void norm_gradient(const Layout& l, int64_t tile, const float* x, const float* gain, const float* dy, const float* dn,
                   const float* scale, float* dx, float* dgain) {
  const int64_t start = tile * l.tile_rows * l.width;
  x += start, dy += start, dx += start;
  std::fill_n(dgain, l.width, 0.0f);
  for (int64_t row = 0; row < l.rows(tile); row++) {
    const float r = scale[row];
    const float mean = sum_row(l.width, [&](auto at) { return at(dn) * at(gain) * at(x); }) * r / l.width;
    write_row(l.width, l.width, dgain, [&](auto at) { return at(dgain) + at(dn) * at(x) * r; });
    write_row(l.width, l.width, dx,
              [&](auto at) { return at(dy) + (at(dn) * at(gain) - at(x) * (r * mean)) * r; });
    x += l.width, dy += l.width, dx += l.width, dn += l.padded_width();
  }
}

// Two rows as a row of words; in fp32 a word is one number, and the second row follows.
void store_words(float* to, Floats a, Floats b) {
  store(to, a);
  store(to + kPanel, b);
}
void store_words(BFloat16* to, Floats a, Floats b) { store(to, in_words(a, b)); }

// 1 / x for x up to 2^126, to 1e-7: an estimate and Newton's step, which wait for less than a division.
Floats inverse(Floats x) {
#ifdef __AVX512F__
  Floats estimate = (Floats)_mm512_rcp14_ps((__m512)x);
  return estimate * (2.0f - x * estimate);
#else
  return 1.0f / x;
#endif
}

Floats sigmoid(Floats x) {
  Floats power = x * -kLog2E;
  return inverse(1.0f + exp2(power > 126.0f ? Floats{} + 126.0f : power));
}

// Work on a square, two rows at a time, that waits to be done beside products: one call, some rows.
template <typename Work>
struct Beside {
  int64_t pairs;  // of rows in a call
  Work work{};
  int64_t row = kPanel;

  // So that it is done when `n` products of depth k are, or soon after.
  Beside(int64_t n, int64_t k) : pairs((kPanel / 2 * kPanel + n * k - 1) / (n * k)) {}
  void start(Work next) { work = next, row = 0; }
  void operator()() {
    for (int64_t i = 0; i < pairs && row < kPanel; i++, row += 2) work(row);
  }
  void finish() {
    while (row < kPanel) (*this)();
  }
};

// h = silu(g) u.
template <typename T>
struct HiddenRows {
  const float *g, *u;
  T* h;
  int64_t stride;

  void operator()(int64_t first) const {
    for (int64_t row = first; row < first + 2; row++)
      for (int64_t i = 0; i < kPanel; i += 2 * kLanes) {
        Floats out[2];
        for (int half = 0; half < 2; half++) {
          const int64_t at = row * kPanel + i + half * kLanes;
          Floats a = load<Floats>(g + at);
          out[half] = a * sigmoid(a) * load<Floats>(u + at);
        }
        store_line(h + row * stride + i, out[0], out[1]);
      }
  }
};

template <typename T>
void forward(const Layout& l, const float* x, const float* gain, const float* gate, const float* up,
             const float* down, float* out, int n_threads) {
  const int64_t padded = l.padded_width(), size = l.weight_size();
  const size_t shared_bytes = 3 * (size * sizeof(T) + 64);
  const size_t own_bytes = l.tile_size() * (sizeof(T) + sizeof(float)) +
                           kSquare * (4 * sizeof(float) + l.block * sizeof(T)) + l.strip_size() * sizeof(T) + 1024;
  const Memory memory(shared_bytes, own_bytes, n_threads);
  Scratch shared = memory.shared;
  T *gate_words = shared.take<T>(size), *up_words = shared.take<T>(size), *down_words = shared.take<T>(size);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = omp_get_thread_num() ? memory.of_thread() : shared;
    auto nowhere = [](int64_t, int64_t) -> T* { return nullptr; };
    for (auto [weight, words] : {std::pair{gate, gate_words}, {up, up_words}})
      pack<T>(weight, l.hidden, l.width, scratch, [&](int64_t p, int64_t i) { return words + l.at(p, i); }, nowhere);
    pack<T>(down, l.width, l.hidden, scratch, [&](int64_t i, int64_t p) { return down_words + l.in_block(p, i); },
            nowhere);
#pragma omp barrier
    T *n = scratch.take<T>(l.tile_size()), *h = scratch.take<T>(l.block * kSquare);
    float *g = scratch.take<float>(2 * kSquare), *u = scratch.take<float>(2 * kSquare);
    Beside<HiddenRows<T>> hidden(2, padded);
    float* y = scratch.take<float>(l.tile_size());
    Multiplier multiply;
#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < l.n_tiles; tile++) {
      const int64_t rows = l.padded_rows(tile);
      normalise(l, tile, x, gain, n, nullptr);
      for (int64_t first = 0; first < l.hidden_panels; first += l.block)
        for (int64_t row = 0; row < rows; row += kPanel) {
          const int64_t last = l.block_end(first), depth = (last - first) * kPanel;
          for (int64_t p = first; p < last; p++) {
            float *g_now = g + p % 2 * kSquare, *u_now = u + p % 2 * kSquare;
            multiply(padded, n + row * padded, padded, gate_words + l.at(p, 0), g_now, kPanel, false, hidden);
            multiply(padded, n + row * padded, padded, up_words + l.at(p, 0), u_now, kPanel, false, hidden);
            hidden.finish();
            hidden.start({g_now, u_now, h + (p - first) * kPanel, depth});
          }
          hidden.finish();
          for (int64_t i = 0; i < l.width_panels; i++)
            multiply(depth, h, depth, down_words + l.in_block(first, i), y + row * padded + i * kPanel, padded,
                     first > 0);
        }
      for (int64_t row = 0; row < l.rows(tile); row++) {
        const int64_t start = (tile * l.tile_rows + row) * l.width;
        write_row(l.width, l.width, out + start, [&](auto at) { return at(x + start) + at(y + row * padded); });
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

// h = silu(g) u, and what dh means for g and u: the gradients as rows, all as words of two rows.
template <typename T>
struct GradientRows {
  const float *g, *u, *dh;
  T *h_words, *gate_words, *up_words, *gate_rows, *up_rows;
  int64_t stride;  // of the rows

  void operator()(int64_t row) const {
    for (int64_t i = 0; i < kPanel; i += 2 * kLanes) {
      Floats h[2][2], dg[2][2], du[2][2];  // row, half
      for (int r = 0; r < 2; r++) {
        for (int half = 0; half < 2; half++) {
          const int64_t at = (row + r) * kPanel + i + half * kLanes;
          Floats a = load<Floats>(g + at), b = load<Floats>(u + at), d = load<Floats>(dh + at);
          Floats s = sigmoid(a), silu = a * s;
          h[r][half] = silu * b;
          du[r][half] = d * silu;
          dg[r][half] = d * b * (s + silu * (1.0f - s));
        }
        store_line(gate_rows + (row + r) * stride + i, dg[r][0], dg[r][1]);
        store_line(up_rows + (row + r) * stride + i, du[r][0], du[r][1]);
      }
      for (int half = 0; half < 2; half++) {
        const int64_t at = row * kPanel + (i + half * kLanes) * kPair<T>;
        store_words(h_words + at, h[0][half], h[1][half]);
        store_words(gate_words + at, dg[0][half], dg[1][half]);
        store_words(up_words + at, du[0][half], du[1][half]);
      }
    }
  }
};

// Rows [n, m] of a square to where they belong, or added to what is there.
void write_square(const float* from, int64_t n, int64_t m, float* to, int64_t ld_to, bool add) {
  for (int64_t row = 0; row < n; row++, from += kPanel, to += ld_to)
    if (add)
      write_row(m, m, to, [&](auto at) { return at(to) + at(from); });
    else
      write_row(m, m, to, [&](auto at) { return at(from); });
}

// Null pointers for what is not wanted: dx and dgain, or any weight's gradient.
struct Gradients {
  float *dx, *dgain, *dgate, *dup, *ddown;
};

template <typename T>
void backward(const Layout& l, const float* x, const float* gain, const float* gate, const float* up,
              const float* down, const float* dy, const Gradients& to, int n_threads) {
  const int64_t padded = l.padded_width(), size = l.weight_size(), hidden_size = l.tile_rows * l.padded_hidden();
  const int64_t at_a_time = std::min(l.n_tiles, n_threads * ((kRowsAtATime + l.tile_rows - 1) / l.tile_rows));
  const bool weights = to.dgate || to.dup || to.ddown;
  const size_t shared_bytes = sizeof(T) * (5 * size + at_a_time * (2 * l.tile_size() + 3 * hidden_size)) +
                              sizeof(float) * l.n_tiles * l.width + 1024;
  const size_t own_bytes = l.tile_size() * (2 * sizeof(T) + sizeof(float)) + l.tile_rows * sizeof(float) +
                           kSquare * (2 * l.block * sizeof(T) + 7 * sizeof(float)) +
                           padded * kPanel * (sizeof(T) + l.group * sizeof(float)) + l.strip_size() * sizeof(T) + 2048;
  const Memory memory(shared_bytes, own_bytes, n_threads);
  Scratch shared = memory.shared;
  T *gate_words = shared.take<T>(size), *up_words = shared.take<T>(size), *down_words = shared.take<T>(size);
  T* back_words = shared.take<T>(2 * size);
  T *n_turned = shared.take<T>(at_a_time * l.tile_size()), *dy_turned = shared.take<T>(at_a_time * l.tile_size());
  T* h_words = shared.take<T>(at_a_time * hidden_size);
  T *dgate_words = shared.take<T>(at_a_time * hidden_size), *dup_words = shared.take<T>(at_a_time * hidden_size);
  float* dgains = shared.take<float>(l.n_tiles * l.width);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = omp_get_thread_num() ? memory.of_thread() : shared;
    for (bool second : {false, true})  // back_words: of each block and panel of the width gate, then up
      pack<T>(
          second ? up : gate, l.hidden, l.width, scratch,
          [&](int64_t p, int64_t i) { return (second ? up_words : gate_words) + l.at(p, i); },
          [&](int64_t p, int64_t i) {
            const int64_t first = p / l.block * l.block, half = (l.block_end(p) - first) * kSquare;
            return back_words + 2 * l.in_block(first, i) + second * half + (p - first) * kSquare;
          });
    pack<T>(down, l.width, l.hidden, scratch, [](int64_t, int64_t) -> T* { return nullptr; },
            [&](int64_t i, int64_t p) { return down_words + l.at(p, i); });
#pragma omp barrier
    T *n = scratch.take<T>(l.tile_size()), *dy_rows = scratch.take<T>(l.tile_size());
    T *block_rows = scratch.take<T>(2 * l.block * kSquare), *words = scratch.take<T>(padded * kPanel);
    float *g = scratch.take<float>(2 * kSquare), *u = scratch.take<float>(2 * kSquare);
    float* dh = scratch.take<float>(2 * kSquare);
    float *dn = scratch.take<float>(l.tile_size()), *scale = scratch.take<float>(l.tile_rows);
    float *sums = scratch.take<float>(padded * l.group * kPanel), *turned = scratch.take<float>(kSquare);
    Beside<GradientRows<T>> hidden(3, padded);
    Multiplier multiply;
    for (int64_t begin = 0; begin < l.n_tiles; begin += at_a_time) {
      const int64_t end = std::min(l.n_tiles, begin + at_a_time);
#pragma omp for schedule(static)
      for (int64_t tile = begin; tile < end; tile++) {
        const int64_t rows = l.padded_rows(tile), slot = tile - begin;
        normalise(l, tile, x, gain, n, scale);
        for (int64_t row = 0; row < l.rows(tile); row++) {
          const float* from = dy + (tile * l.tile_rows + row) * l.width;
          write_row(l.width, padded, dy_rows + row * padded, [&](auto at) { return at(from); });
        }
        std::fill(dy_rows + l.rows(tile) * padded, dy_rows + rows * padded, T(0.0f));
        if (weights) {
          transpose_tile(n, rows, padded, words, n_turned + slot * l.tile_size());
          transpose_tile(dy_rows, rows, padded, words, dy_turned + slot * l.tile_size());
        }
        for (int64_t first = 0; first < l.hidden_panels; first += l.block)
          for (int64_t row = 0; row < rows; row += kPanel) {
            const int64_t last = l.block_end(first), half = (last - first) * kPanel, depth = 2 * half;
            for (int64_t p = first; p < last; p++) {
              const int64_t other = p % 2 * kSquare;
              multiply(padded, n + row * padded, padded, gate_words + l.at(p, 0), g + other, kPanel, false, hidden);
              multiply(padded, n + row * padded, padded, up_words + l.at(p, 0), u + other, kPanel, false, hidden);
              multiply(padded, dy_rows + row * padded, padded, down_words + l.at(p, 0), dh + other, kPanel, false,
                       hidden);
              hidden.finish();
              const int64_t left = slot * hidden_size + (p * rows + row) * kPanel;
              T* gate_rows = block_rows + (p - first) * kPanel;
              hidden.start({g + other, u + other, dh + other, h_words + left, dgate_words + left, dup_words + left,
                            gate_rows, gate_rows + half, depth});
            }
            hidden.finish();
            for (int64_t i = 0; to.dx && i < l.width_panels; i++)
              multiply(depth, block_rows, depth, back_words + 2 * l.in_block(first, i),
                       dn + row * padded + i * kPanel, padded, first > 0);
          }
        if (to.dx) norm_gradient(l, tile, x, gain, dy, dn, scale, to.dx, dgains + tile * l.width);
      }
      if (!weights) continue;
      const int64_t groups = (l.hidden_panels + l.group - 1) / l.group;
#pragma omp for schedule(static)
      for (int64_t task = 0; task < 3 * groups; task++) {
        const int64_t first = task / 3 * l.group, last = std::min(first + l.group, l.hidden_panels), weight = task % 3;
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
            const int64_t j = p * kPanel;
            const int64_t n_width = std::min(kPanel, l.width - i), n_hidden = std::min(kPanel, l.hidden - j);
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

int64_t wikigpt_norm_swiglu_forward(int bf16, const Shape* s, const float* x, const float* gain, const float* gate,
                                    const float* up, const float* down, float* out, int n_threads) {
  return guarded([&] {
    Layout layout(*s, n_threads);
    (bf16 ? forward<BFloat16> : forward<float>)(layout, x, gain, gate, up, down, out, n_threads);
    return 0;
  });
}

int64_t wikigpt_norm_swiglu_backward(int bf16, const Shape* s, const float* x, const float* gain, const float* gate,
                                     const float* up, const float* down, const float* dy, float* dx, float* dgain,
                                     float* dgate, float* dup, float* ddown, int n_threads) {
  return guarded([&] {
    Layout layout(*s, n_threads);
    (bf16 ? backward<BFloat16> : backward<float>)(layout, x, gain, gate, up, down, dy,
                                                  {dx, dgain, dgate, dup, ddown}, n_threads);
    return 0;
  });
}
}

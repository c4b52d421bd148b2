// The projections around attention on CPUs. Before it: RMSNorm, queries, keys and values, the norms of their heads,
// rotary positions. After it: the projection back into the residual stream.
//
// A thread takes some rows through all of this while they lie in its cache. Nothing is kept for the backward pass,
// which computes queries and keys again; gradients of weights are summed in each thread, then over threads. In scratch
// memory rows and widths are whole panels of 32, with zeros at the end; a head is two halves of whole half panels, as
// rotary positions pair them.
// `projections.py` calls this file.

#include "tiles.h"

namespace {

constexpr int64_t kTile = 256;   // rows whose gradients are summed at a time, fewer where there are many threads
constexpr int64_t kDepth = 256;  // columns of rows that are multiplied at a time

int64_t padded(int64_t n) { return panels(n) * kPanel; }

int64_t tile_rows(int64_t n_rows, int n_threads) {
  int64_t rows = kTile;
  while (rows > kPanel && n_rows <= rows / 2 * n_threads) rows /= 2;
  return rows;
}

// Between the rows of a transposed tile, not a power of two: they would share a few places of the cache.
int64_t stride(int64_t tile) { return tile + kPanel; }

// What `f` of `along_row` writes.
template <typename T>
void put(T* to, Floats x) {
  store_row(to, x);
}
template <typename T>
void put(T* to, float x) {
  *to = x;
}

// A sum along a row.
struct Sum {
  Floats lanes{};
  float rest = 0;
  void add(Floats x) { lanes += x; }
  void add(float x) { rest += x; }
  float value() const { return total(lanes) + rest; }
};

// 1 / root mean square of `width` numbers that are the first of n, the others zeros.
float inverse_rms(const float* x, int64_t n, int64_t width, float eps) {
  Sum squares;
  along_row(n, [&](int64_t, auto at) { squares.add(at(x) * at(x)); });
  return 1 / std::sqrt(squares.value() / width + eps);
}

// Floats [n, width] as T [tile, padded(width)].
template <typename T>
void convert_rows(const float* from, int64_t ld, int64_t n, int64_t width, int64_t tile, T* to) {
  for (int64_t row = 0; row < n; row++, from += ld, to += padded(width)) {
    along_row(width, [&](int64_t i, auto at) { put(to + i, at(from)); });
    std::fill(to + width, to + padded(width), T(0.0f));
  }
  std::fill_n(to, (tile - n) * padded(width), T(0.0f));
}

// Rows [n, width] to columns [width, stride(n)].
template <typename T>
void transpose_rows(const T* rows, int64_t n, int64_t width, T* columns, Scratch scratch) {
  Word* words = scratch.take<Word>(n / kPair<T> * width);
  pair_rows(rows, width, n, width, words);
  transpose(words, width, n / kPair<T>, width, reinterpret_cast<Word*>(columns), stride(n) / kPair<T>);
}

// Rows [n, width], panel by panel, to words of columns [width / kPair, kPanel].
template <typename T>
void pair_columns(const T* rows, int64_t n, int64_t width, T* words) {
  for (int64_t row = 0; row < n; row += kPanel)
    transpose(reinterpret_cast<const Word*>(rows + row * width), width / kPair<T>, kPanel, width / kPair<T>,
              reinterpret_cast<Word*>(words + row * width), kPanel);
}

// A panel of columns [n, kPanel] of rows to words of rows.
template <typename T>
void pair_panel(const T* rows, int64_t ld, int64_t n, T* words) {
  pair_rows(rows, ld, n, kPanel, reinterpret_cast<Word*>(words));
}

// Bytes that `take` needs for n numbers.
template <typename T>
size_t room(int64_t n) {
  return n * sizeof(T) + 63;
}

// The sum over threads of n numbers of each, in the order of the threads; no memory: a thread that did not run.
void sum_threads(const std::vector<float*>& sums, int64_t offset, int64_t n, float* to) {
  std::copy_n(sums[0] + offset, n, to);
  for (size_t thread = 1; thread < sums.size(); thread++)
    for (int64_t i = 0; sums[thread] && i < n; i += kLanes)
      store(to + i, load<Floats>(to + i) + load<Floats>(sums[thread] + offset + i));
}

// Of the projection back into the stream.
struct Sizes {
  int64_t n_rows, inputs, width;
};

// Of the projections to heads.
struct Shape {
  int64_t n_rows, n_tokens, width, head_dim;
  float eps;
};

// The residual stream [rows, width] and the gain of its norm; gradients that nobody asked for have no place to go.
struct Stream {
  const float *x, *gain;
  float *dx, *d_gain;
};

// Queries, keys or values. No gain: no norm; no cos: no rotation, and no norm either.
struct Part {
  int64_t n_heads;
  const float *weight, *gain, *cos, *sin;
  void* heads;  // [rows, n_heads, head_dim]; in the backward pass their gradient
  float *d_weight, *d_gain;
};

// A head in scratch memory: its halves begin at 0 and `step`.
struct Head {
  int64_t dim, half, step, size;
  explicit Head(int64_t head_dim) : dim(head_dim), half(dim / 2), step(padded(dim) / 2), size(2 * step) {}
};

// From halves, as in scratch memory, to where they belong.
void join(const Head& head, const float* from, float* to) {
  std::copy_n(from, head.half, to);
  std::copy_n(from + head.step, head.half, to + head.half);
}

template <typename T>
void norm_rows(const Shape& shape, const Stream& stream, int64_t start, int64_t n, int64_t tile, T* to) {
  const int64_t width = shape.width, ld = padded(width);
  const float* x = stream.x + start * width;
  for (int64_t row = 0; row < n; row++, x += width, to += ld) {
    const float scale = inverse_rms(x, width, width, shape.eps);
    along_row(width, [&](int64_t i, auto at) { put(to + i, at(x) * scale * at(stream.gain)); });
    std::fill(to + width, to + ld, T(0.0f));
  }
  std::fill_n(to, (tile - n) * ld, T(0.0f));
}

// From the gradient of normed rows to that of the stream; adds to that of the gain.
void norm_rows_backward(const Shape& shape, const Stream& stream, int64_t start, int64_t n, const float* dn,
                        float* d_gain) {
  const int64_t width = shape.width;
  const float* x = stream.x + start * width;
  float* dx = stream.dx + start * width;
  for (int64_t row = 0; row < n; row++, x += width, dx += width, dn += padded(width)) {
    const float scale = inverse_rms(x, width, width, shape.eps);
    Sum products;
    along_row(width, [&](int64_t i, auto at) {
      auto product = at(dn) * at(x) * scale;
      put(d_gain + i, at(d_gain) + product);
      products.add(product * at(stream.gain));
    });
    if (!stream.dx) continue;
    const float mean = products.value() / width * scale;
    along_row(width, [&](int64_t i, auto at) {
      put(dx + i, (at(dn) * at(stream.gain) - at(x) * mean) * scale);
    });
  }
}

// The factors of the norms of n heads, where there is a norm; before all else, as these long chains of operations
// overlap best with one another.
void head_scales(const Head& head, const Part& part, float eps, int64_t n, const float* heads, float* scales) {
  for (int64_t i = 0; part.gain && i < n; i++) scales[i] = inverse_rms(heads + i * head.size, head.size, head.dim, eps);
}

// Norm and rotation of one head of one token.
template <typename T>
void finish_head(const Head& head, const Part& part, float scale, int64_t position, const float* from, T* to) {
  const int64_t half = head.half, turn = position * head.dim;
  const float *other = from + head.step, *cos = part.cos + turn, *sin = part.sin + turn;
  if (!part.cos)
    return along_row(half, [&](int64_t i, auto at) {
      put(to + i, at(from));
      put(to + half + i, at(other));
    });
  along_row(half, [&](int64_t i, auto at) {
    auto a = at(from), b = at(other);
    if (part.gain) {
      a *= at(part.gain) * scale;
      b *= at(part.gain + half) * scale;
    }
    put(to + i, a * at(cos) - b * at(sin));
    put(to + half + i, b * at(cos + half) + a * at(sin + half));
  });
}

// From the gradient of what `finish_head` wrote to that of what it read, which matters only where there is a gain;
// adds to the gradient of the gain. `turned` is room for a head.
template <typename T>
void finish_head_backward(const Head& head, const Part& part, float scale, int64_t position, const float* from,
                          const T* gradient, float* d_gain, float* turned, T* to) {
  const int64_t half = head.half, step = head.step, turn = position * head.dim;
  const float *other = from + step, *cos = part.cos + turn, *sin = part.sin + turn;
  auto rotate = [&](auto at) {
    auto a = at(gradient), b = at(gradient + half);
    return std::pair(a * at(cos) + b * at(sin + half), b * at(cos + half) - a * at(sin));
  };
  if (!part.gain)
    return along_row(half, [&](int64_t i, auto at) {
      auto [a, b] = part.cos ? rotate(at) : std::pair(at(gradient), at(gradient + half));
      put(to + i, a);
      put(to + step + i, b);
    });
  Sum products;
  along_row(half, [&](int64_t i, auto at) {
    auto [a, b] = rotate(at);
    auto for_a = a * at(from) * scale, for_b = b * at(other) * scale;
    put(d_gain + i, at(d_gain) + for_a);
    put(d_gain + step + i, at(d_gain + step) + for_b);
    products.add(for_a * at(part.gain) + for_b * at(part.gain + half));
    put(turned + i, a * at(part.gain));
    put(turned + step + i, b * at(part.gain + half));
  });
  const float mean = products.value() / head.dim * scale;
  along_row(half, [&](int64_t i, auto at) {
    put(to + i, (at(turned) - at(from) * mean) * scale);
    put(to + step + i, (at(turned + step) - at(other) * mean) * scale);
  });
}

// The weights of all heads, in one or both forms of words: panels of 32 outputs, in pairs of inputs, to multiply with
// normed rows, and panels of 32 inputs, in pairs of outputs, to multiply with gradients. Ends with a barrier.
template <typename T>
void pack_heads(const Head& head, int64_t width, int64_t all, const Part* parts, T* by_input, T* by_output,
                Scratch scratch) {
  const int64_t ld = padded(width);
  T* rows = scratch.take<T>(head.size * ld);
  int64_t first = 0;
  for (const Part* part = parts; part < parts + 3; first += part++->n_heads * head.size) {
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < part->n_heads; i++) {
      const float* weight = part->weight + i * head.dim * width;
      const int64_t start = first + i * head.size;
      convert_rows(weight, width, head.half, width, head.step, rows);
      convert_rows(weight + head.half * width, width, head.half, width, head.step, rows + head.step * ld);
      if (by_input) pair_columns(rows, head.size, ld, by_input + start * ld);
      for (int64_t j = 0; by_output && j < ld; j += kPanel)
        pair_panel(rows + j, ld, head.size, by_output + j * all + start * kPanel);
    }
  }
#pragma omp barrier
}

// A panel of rows [kPanel, depth] times panels of words: [kPanel, n]. The depth is cut, so that a piece of the rows
// stays in the first cache while all words go by (768 deep: 2,080 GFLOP/s against 1,660).
template <typename T>
void multiply_rows(const Multiplier& multiply, int64_t n, int64_t depth, const T* rows, const T* words,
                   float* products) {
  for (int64_t k = 0; k < depth; k += kDepth)
    for (int64_t j = 0; j < n; j += kPanel)
      multiply(std::min(kDepth, depth - k), rows + k, depth, words + j * depth + k * kPanel, products + j, n, k > 0);
}

template <typename T>
void heads_forward(const Shape& shape, const Stream& stream, const Part* parts, int n_threads) {
  const Head head(shape.head_dim);
  const int64_t ld = padded(shape.width), most = std::max(parts[0].n_heads, parts[1].n_heads);
  const int64_t all = (parts[0].n_heads + parts[1].n_heads + parts[2].n_heads) * head.size;
  Memory memory(room<T>(all * ld),
                room<T>(kPanel * ld) + room<float>(kPanel * most * head.size) + room<float>(kPanel * most) +
                    room<T>(head.size * ld),
                n_threads);
  T* words = memory.shared.take<T>(all * ld);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
    T* normed = scratch.take<T>(kPanel * ld);
    float *products = scratch.take<float>(kPanel * most * head.size), *scales = scratch.take<float>(kPanel * most);
    pack_heads<T>(head, shape.width, all, parts, words, nullptr, scratch);
    const Multiplier multiply;
#pragma omp for schedule(static)
    for (int64_t start = 0; start < shape.n_rows; start += kPanel) {
      const int64_t n = std::min(kPanel, shape.n_rows - start);
      norm_rows(shape, stream, start, n, kPanel, normed);
      const T* weight = words;
      for (const Part* part = parts; part < parts + 3; weight += part++->n_heads * head.size * ld) {
        const int64_t n_heads = part->n_heads, width = n_heads * head.dim;
        multiply_rows(multiply, n_heads * head.size, ld, normed, weight, products);
        head_scales(head, *part, shape.eps, n * n_heads, products, scales);
        for (int64_t row = 0; row < n; row++) {
          T* to = static_cast<T*>(part->heads) + (start + row) * width;
          const int64_t position = (start + row) % shape.n_tokens;
          fetch<1>(to + kAhead * width, width);
          if (part == parts) fetch<0, 2>(stream.x + (start + kPanel + row) * shape.width, shape.width);
          for (int64_t i = 0; i < n_heads; i++)
            finish_head(head, *part, scales[row * n_heads + i], position, products + (row * n_heads + i) * head.size,
                        to + i * head.dim);
        }
      }
    }
  }
}

template <typename T>
void heads_backward(const Shape& shape, const Stream& stream, const Part* parts, int n_threads) {
  const Head head(shape.head_dim);
  const int64_t ld = padded(shape.width), tile = tile_rows(shape.n_rows, n_threads);
  const int64_t most = std::max(parts[0].n_heads, parts[1].n_heads);
  const int64_t all = (parts[0].n_heads + parts[1].n_heads + parts[2].n_heads) * head.size;
  const int64_t n_products = kPanel * std::max(ld, most * head.size);
  const int64_t n_sums = all * ld + 3 * head.size + ld;  // weights, gains of the parts, gain of the stream
  const bool weights = parts[0].d_weight || parts[1].d_weight || parts[2].d_weight;
  n_threads = std::clamp<int64_t>((shape.n_rows + tile - 1) / tile, 1, n_threads);
  std::vector<float*> sums(n_threads);
  Memory memory(2 * room<T>(all * ld),
                room<T>(tile * ld) + room<T>(stride(tile) * ld) + room<T>(tile * all) + room<T>(tile * kPanel) +
                    room<float>(n_products) + room<float>(kPanel * most) + room<float>(head.size) +
                    room<float>(n_sums) + room<float>(tile * ld) + room<float>(head.size * ld),
                n_threads);
  T *by_input = memory.shared.take<T>(all * ld), *by_output = memory.shared.take<T>(all * ld);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
    T *normed = scratch.take<T>(tile * ld), *normed_columns = scratch.take<T>(stride(tile) * ld);
    T *gradient = scratch.take<T>(tile * all), *gradient_words = scratch.take<T>(tile * kPanel);
    float *products = scratch.take<float>(n_products), *scales = scratch.take<float>(kPanel * most);
    float* turned = scratch.take<float>(head.size);
    float *sum = scratch.take<float>(n_sums), *gain_sums = sum + all * ld;
    sums[omp_get_thread_num()] = sum;
    std::fill_n(gain_sums, 3 * head.size + ld, 0.0f);
    std::fill_n(gradient, tile * all, T(0.0f));
    pack_heads(head, shape.width, all, parts, by_input, by_output, scratch);
    const Multiplier multiply;
    bool more = false;
#pragma omp for schedule(static) nowait
    for (int64_t start = 0; start < shape.n_rows; start += tile) {
      const int64_t n = std::min(tile, shape.n_rows - start);
      norm_rows(shape, stream, start, n, tile, normed);
      if (weights) transpose_rows(normed, tile, ld, normed_columns, scratch);
      std::fill_n(gradient + n * all, (tile - n) * all, T(0.0f));
      int64_t column = 0;
      for (const Part* part = parts; part < parts + 3; part++) {
        const int64_t n_heads = part->n_heads, width = n_heads * head.dim, end = column + n_heads * head.size;
        for (int64_t row = 0; row < n; row++) {
          const int64_t first = row % kPanel * n_heads;
          if (part->gain && !first) {
            multiply_rows(multiply, n_heads * head.size, ld, normed + row * ld, by_input + column * ld, products);
            head_scales(head, *part, shape.eps, kPanel * n_heads, products, scales);
          }
          const T* from = static_cast<const T*>(part->heads) + (start + row) * width;
          fetch<0>(from + kAhead * width, width);
          for (int64_t i = 0; i < n_heads; i++)
            finish_head_backward(head, *part, scales[first + i], (start + row) % shape.n_tokens,
                                 products + (first + i) * head.size, from + i * head.dim,
                                 gain_sums + (part - parts) * head.size, turned,
                                 gradient + row * all + column + i * head.size);
        }
        for (; column < end; column += kPanel) {
          if (!part->d_weight) continue;
          pair_panel(gradient + column, all, tile, gradient_words);
          for (int64_t i = 0; i < ld; i += kPanel)
            multiply(tile, normed_columns + i * stride(tile), stride(tile), gradient_words,
                     sum + column * ld + i * kPanel, kPanel, more);
        }
      }
      for (int64_t row = 0; (stream.dx || stream.d_gain) && row < n; row += kPanel) {
        multiply_rows(multiply, ld, all, gradient + row * all, by_output, products);
        norm_rows_backward(shape, stream, start + row, std::min(kPanel, n - row), products, gain_sums + 3 * head.size);
      }
      more = true;
    }
    if (!more) std::fill_n(sum, all * ld, 0.0f);
#pragma omp barrier
    float *inputs = scratch.take<float>(kPanel * ld), *outputs = scratch.take<float>(head.size * ld);
    int64_t first = 0;
    for (const Part* part = parts; part < parts + 3; first += part++->n_heads * head.size) {
      if (!part->d_weight) continue;
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < part->n_heads; i++) {
        for (int64_t j = 0; j < head.size; j += kPanel) {
          sum_threads(sums, (first + i * head.size + j) * ld, kPanel * ld, inputs);
          transpose(reinterpret_cast<const Word*>(inputs), kPanel, ld, kPanel,
                    reinterpret_cast<Word*>(outputs + j * ld), ld);
        }
        for (int64_t row = 0; row < head.dim; row++)
          std::copy_n(outputs + (row < head.half ? row : row - head.half + head.step) * ld, shape.width,
                      part->d_weight + (i * head.dim + row) * shape.width);
      }
    }
#pragma omp single
    {
      sum_threads(sums, all * ld, 3 * head.size + ld, outputs);
      for (int64_t i = 0; i < 3; i++)
        if (parts[i].d_gain) join(head, outputs + i * head.size, parts[i].d_gain);
      if (stream.d_gain) std::copy_n(outputs + 3 * head.size, shape.width, stream.d_gain);
    }
  }
}

// Rows [n, width] as [tile, padded(width)]: themselves where they are that already.
template <typename T>
const T* whole_tile(const T* from, int64_t n, int64_t width, int64_t tile, T* room) {
  const int64_t ld = padded(width);
  if (n == tile && width == ld) return from;
  std::fill_n(room, tile * ld, T(0.0f));
  for (int64_t row = 0; row < n; row++) std::copy_n(from + row * width, width, room + row * ld);
  return room;
}

// out = x + y W^T with y [n_rows, inputs] and W [width, inputs].
template <typename T>
void add_forward(const Sizes& sizes, const T* y, const float* weight, const float* x, float* out, int n_threads) {
  const auto [n_rows, inputs, width] = sizes;
  const int64_t ld = padded(inputs), ld_out = padded(width);
  Memory memory(room<T>(ld_out * ld), room<T>(kPanel * ld) + room<float>(kPanel * ld_out), n_threads);
  T* words = memory.shared.take<T>(ld_out * ld);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
    T* rows = scratch.take<T>(kPanel * ld);
    float* products = scratch.take<float>(kPanel * ld_out);
#pragma omp for schedule(static)
    for (int64_t column = 0; column < width; column += kPanel) {
      convert_rows(weight + column * inputs, inputs, std::min(kPanel, width - column), inputs, kPanel, rows);
      pair_columns(rows, kPanel, ld, words + column * ld);
    }
    const Multiplier multiply;
#pragma omp for schedule(static)
    for (int64_t start = 0; start < n_rows; start += kPanel) {
      const int64_t n = std::min(kPanel, n_rows - start);
      const T* from = whole_tile(y + start * inputs, n, inputs, kPanel, rows);
      multiply_rows(multiply, ld_out, ld, from, words, products);
      for (int64_t row = 0; row < n; row++) {
        const float *before = x + (start + row) * width, *product = products + row * ld_out;
        float* to = out + (start + row) * width;
        along_row(width, [&](int64_t i, auto at) { put(to + i, at(before) + at(product)); });
      }
    }
  }
}

// `dy` and `d_weight` may be null: not asked for.
template <typename T>
void add_backward(const Sizes& sizes, const float* gradient, const T* y, const float* weight, T* dy, float* d_weight,
                  int n_threads) {
  const auto [n_rows, inputs, width] = sizes;
  const int64_t ld = padded(inputs), ld_out = padded(width), tile = tile_rows(n_rows, n_threads);
  n_threads = std::clamp<int64_t>((n_rows + tile - 1) / tile, 1, n_threads);
  std::vector<float*> sums(n_threads);
  Memory memory(room<T>(ld_out * ld),
                2 * room<T>(tile * ld_out) + room<T>(stride(tile) * ld_out) + room<T>(tile * ld) +
                    room<T>((tile + ld_out) * kPanel) + room<float>(kPanel * ld) + room<float>(ld_out * ld) +
                    room<float>(ld_out * kPanel),
                n_threads);
  T* words = memory.shared.take<T>(ld_out * ld);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
    T *rows = scratch.take<T>(tile * ld_out), *columns = scratch.take<T>(stride(tile) * ld_out);
    T *y_rows = scratch.take<T>(tile * ld), *y_words = scratch.take<T>(tile * kPanel);
    T* weight_rows = scratch.take<T>(ld_out * kPanel);
    float *products = scratch.take<float>(kPanel * ld), *sum = scratch.take<float>(ld_out * ld);
    sums[omp_get_thread_num()] = sum;
if (dy)
#pragma omp for schedule(static)
      for (int64_t column = 0; column < inputs; column += kPanel) {
        convert_rows(weight + column, inputs, width, std::min(kPanel, inputs - column), ld_out, weight_rows);
        pair_panel(weight_rows, kPanel, ld_out, words + column * ld_out);
      }
    const Multiplier multiply;
    bool more = false;
#pragma omp for schedule(static) nowait
    for (int64_t start = 0; start < n_rows; start += tile) {
      const int64_t n = std::min(tile, n_rows - start);
      convert_rows(gradient + start * width, width, n, width, tile, rows);
      if (d_weight) {
        transpose_rows(rows, tile, ld_out, columns, scratch);
        const T* from = whole_tile(y + start * inputs, n, inputs, tile, y_rows);
        for (int64_t j = 0; j < ld; j += kPanel) {
          pair_panel(from + j, ld, tile, y_words);
          for (int64_t i = 0; i < ld_out; i += kPanel)
            multiply(tile, columns + i * stride(tile), stride(tile), y_words, sum + j * ld_out + i * kPanel, kPanel,
                     more);
        }
      }
      for (int64_t row = 0; dy && row < n; row += kPanel) {
        multiply_rows(multiply, ld, ld_out, rows + row * ld_out, words, products);
        for (int64_t i = 0; i < std::min(kPanel, n - row); i++) {
          const float* product = products + i * ld;
          T* to = dy + (start + row + i) * inputs;
          along_row(inputs, [&](int64_t column, auto at) { put(to + column, at(product)); });
        }
      }
      more = true;
    }
    if (!more) std::fill_n(sum, ld_out * ld, 0.0f);
#pragma omp barrier
    if (d_weight) {
      float* total = scratch.take<float>(ld_out * kPanel);
#pragma omp for schedule(static)
      for (int64_t column = 0; column < inputs; column += kPanel) {
        sum_threads(sums, column * ld_out, ld_out * kPanel, total);
        for (int64_t row = 0; row < width; row++)
          std::copy_n(total + row * kPanel, std::min(kPanel, inputs - column), d_weight + row * inputs + column);
      }
    }
  }
}

}  // namespace

extern "C" {

int64_t wikigpt_heads_forward(int bf16, const Shape* shape, const Stream* stream, const Part* parts, int n_threads) {
  return guarded([&] {
    (bf16 ? heads_forward<BFloat16> : heads_forward<float>)(*shape, *stream, parts, n_threads);
    return 0;
  });
}

int64_t wikigpt_heads_backward(int bf16, const Shape* shape, const Stream* stream, const Part* parts, int n_threads) {
  return guarded([&] {
    (bf16 ? heads_backward<BFloat16> : heads_backward<float>)(*shape, *stream, parts, n_threads);
    return 0;
  });
}

int64_t wikigpt_add_forward(int bf16, const Sizes* sizes, const void* y, const float* weight, const float* x,
                            float* out, int n_threads) {
  auto run = [&](auto zero) {
    add_forward(*sizes, static_cast<const decltype(zero)*>(y), weight, x, out, n_threads);
    return 0;
  };
  return guarded([&] { return bf16 ? run(BFloat16()) : run(0.0f); });
}

int64_t wikigpt_add_backward(int bf16, const Sizes* sizes, const float* gradient, const void* y, const float* weight,
                             void* dy, float* d_weight, int n_threads) {
  auto run = [&](auto zero) {
    using T = decltype(zero);
    add_backward(*sizes, gradient, static_cast<const T*>(y), weight, static_cast<T*>(dy), d_weight, n_threads);
    return 0;
  };
  return guarded([&] { return bf16 ? run(BFloat16()) : run(0.0f); });
}
}

// The projections around attention on CPUs. Before it: RMSNorm, queries, keys and values, the norms of their heads,
// rotary positions. After it: the projection back into the residual stream.
//
// A thread takes a tile of rows through all of this while the tile lies in its cache. Nothing is kept for the
// backward pass, which computes queries and keys again; gradients of weights are summed in each thread, then over
// threads. In scratch memory widths are whole vectors, with zeros at the end; a head is two such halves, as rotary
// positions pair them. A tile always has all its rows, zeros where there are none: torch compiles a product for each
// new size, and so there are few sizes.
// `projections.py` calls this file.

#include "vectors.h"

namespace {

constexpr int64_t kTile = 256;    // rows of a tile, fewer where there are many threads for few rows
constexpr int64_t kAhead = 16;    // rows between asking for memory and its use
constexpr int64_t kColumns = 64;  // columns that `project_add` computes at a time

int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

int64_t tile_rows(int64_t n_rows, int n_threads) {
  int64_t rows = kTile;
  while (rows > 32 && n_rows <= rows / 2 * n_threads) rows /= 2;
  return rows;
}

// The first n lanes from memory, zeros in the others.
template <typename T>
Floats load_some(const T* from, int64_t n) {
  if (n >= kLanes) return load_row(from);
  T part[kLanes] = {};
  std::copy_n(from, n, part);
  return load_row(part);
}

template <typename T>
void store_some(T* to, Floats x, int64_t n) {
  if (n >= kLanes) return store_row(to, x);
  T part[kLanes];
  store_row(part, x);
  std::copy_n(part, n, to);
}

// Asks the cache for n numbers that will be read or written some rows later: a head is too short a piece of memory
// for the processor to foresee the next.
template <int write, typename T>
void fetch(const T* at, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(at + i, write);
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

// 1 / root mean square of `width` of n numbers, the others zeros.
float inverse_rms(const float* x, int64_t n, int64_t width, float eps) {
  Floats squares{};
  for (int64_t i = 0; i < n; i += kLanes) {
    Floats value = load_some(x + i, n - i);
    squares += value * value;
  }
  return 1 / std::sqrt(total(squares) / width + eps);
}

// Floats [n, width] as T [tile, padded(width)].
template <typename T>
void convert_rows(const float* from, int64_t ld, int64_t n, int64_t width, int64_t tile, T* to) {
  for (int64_t row = 0; row < n; row++, from += ld)
    for (int64_t i = 0; i < width; i += kLanes, to += kLanes) store_row(to, load_some(from + i, width - i));
  std::fill_n(to, (tile - n) * padded(width), T(0.0f));
}

// Rows [n, width] to columns [width, n].
template <typename T>
void transpose_rows(const T* rows, int64_t n, int64_t width, T* columns, Scratch scratch) {
  Word* words = scratch.take<Word>(n / kPair<T> * width);
  pair_rows(rows, width, n, width, words);
  transpose(words, width, n / kPair<T>, width, reinterpret_cast<Word*>(columns), n / kPair<T>);
}

// Rows [n, width] to words of columns [width / kPair, n].
template <typename T>
void pair_columns(const T* rows, int64_t n, int64_t width, T* words) {
  transpose(reinterpret_cast<const Word*>(rows), width / kPair<T>, n, width / kPair<T>, reinterpret_cast<Word*>(words),
            n);
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

// Queries, keys or values. No gain: no norm; no cos: no rotation.
struct Part {
  int64_t n_heads;
  const float *weight, *gain, *cos, *sin;
  void* heads;  // [rows, n_heads, head_dim]; in the backward pass their gradient
  float *d_weight, *d_gain;
};

// A head in scratch memory: its halves begin at 0 and `step`.
struct Head {
  int64_t dim, half, step, size;
  explicit Head(int64_t head_dim) : dim(head_dim), half(dim / 2), step(padded(half)), size(2 * step) {}
};

// From halves, as in scratch memory, to where they belong.
void join(const Head& head, const float* from, float* to) {
  std::copy_n(from, head.half, to);
  std::copy_n(from + head.step, head.half, to + head.half);
}

template <typename T>
void norm_rows(const Shape& shape, const Stream& stream, int64_t start, int64_t n, int64_t tile, T* to) {
  const int64_t width = shape.width;
  for (int64_t row = start; row < start + n; row++) {
    const float* x = stream.x + row * width;
    const float scale = inverse_rms(x, width, width, shape.eps);
    for (int64_t i = 0; i < width; i += kLanes, to += kLanes)
      store_row(to, load_some(x + i, width - i) * scale * load_some(stream.gain + i, width - i));
  }
  std::fill_n(to, (tile - n) * padded(width), T(0.0f));
}

// From the gradient of normed rows to that of the stream; adds to that of the gain.
void norm_rows_backward(const Shape& shape, const Stream& stream, int64_t start, int64_t n, const float* dn,
                        float* d_gain) {
  const int64_t width = shape.width;
  for (int64_t row = start; row < start + n; row++, dn += padded(width)) {
    const float* x = stream.x + row * width;
    const float scale = inverse_rms(x, width, width, shape.eps);
    Floats products{};
    for (int64_t i = 0; i < width; i += kLanes) {
      Floats product = load<Floats>(dn + i) * load_some(x + i, width - i) * scale;
      store(d_gain + i, load<Floats>(d_gain + i) + product);
      products += product * load_some(stream.gain + i, width - i);
    }
    if (!stream.dx) continue;
    const float mean = total(products) / width * scale;
    for (int64_t i = 0; i < width; i += kLanes) {
      Floats normed = load<Floats>(dn + i) * load_some(stream.gain + i, width - i);
      store_some(stream.dx + row * width + i, (normed - load_some(x + i, width - i) * mean) * scale, width - i);
    }
  }
}

// Norm and rotation of one head of one token.
template <typename T>
void finish_head(const Head& head, const Part& part, float eps, int64_t position, const float* from, T* to) {
  const int64_t turn = position * head.dim;
  const float scale = part.gain ? inverse_rms(from, head.size, head.dim, eps) : 1;
  for (int64_t i = 0, j = head.half, n = head.half; n > 0; i += kLanes, j += kLanes, n -= kLanes) {
    Floats a = load<Floats>(from + i), b = load<Floats>(from + head.step + i);
    if (part.gain) {
      a *= load_some(part.gain + i, n) * scale;
      b *= load_some(part.gain + j, n) * scale;
    }
    if (part.cos) {
      Floats turned = a * load_some(part.cos + turn + i, n) - b * load_some(part.sin + turn + i, n);
      b = b * load_some(part.cos + turn + j, n) + a * load_some(part.sin + turn + j, n);
      a = turned;
    }
    store_some(to + i, a, n);
    store_some(to + j, b, n);
  }
}

// From the gradient of what `finish_head` wrote to that of what it read, which matters only where there is a gain;
// adds to the gradient of the gain.
template <typename T>
void finish_head_backward(const Head& head, const Part& part, float eps, int64_t position, const float* from,
                          const T* gradient, float* d_gain, float* turned, T* to) {
  const int64_t turn = position * head.dim;
  const float scale = part.gain ? inverse_rms(from, head.size, head.dim, eps) : 1;
  Floats products{};
  auto through_gain = [&](Floats& gradient, int64_t at, Floats gain) {
    Floats product = gradient * load<Floats>(from + at) * scale;
    store(d_gain + at, load<Floats>(d_gain + at) + product);
    products += product * gain;
    gradient *= gain;
  };
  for (int64_t i = 0, j = head.half, n = head.half; n > 0; i += kLanes, j += kLanes, n -= kLanes) {
    Floats a = load_some(gradient + i, n), b = load_some(gradient + j, n);
    if (part.cos) {
      Floats back = a * load_some(part.cos + turn + i, n) + b * load_some(part.sin + turn + j, n);
      b = b * load_some(part.cos + turn + j, n) - a * load_some(part.sin + turn + i, n);
      a = back;
    }
    if (part.gain) {
      through_gain(a, i, load_some(part.gain + i, n));
      through_gain(b, head.step + i, load_some(part.gain + j, n));
    }
    store(turned + i, a);
    store(turned + head.step + i, b);
  }
  const float mean = total(products) / head.dim * scale;
  for (int64_t i = 0; i < head.size; i += kLanes) {
    Floats value = load<Floats>(turned + i);
    if (part.gain) value = (value - load<Floats>(from + i) * mean) * scale;
    store_row(to + i, value);
  }
}

// The weights of all heads, each as [head.size, padded(width)], in one or both forms of words: of pairs of inputs
// (to multiply with normed rows) and of pairs of outputs (to multiply with gradients). Ends with a barrier.
template <typename T>
void pack_heads(const Head& head, int64_t width, const Part* parts, T* by_input, T* by_output, Scratch scratch) {
  const int64_t panel = head.size * padded(width);
  T* rows = scratch.take<T>(panel);
  for (const Part* part = parts; part < parts + 3; part++) {
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < part->n_heads; i++) {
      const float* weight = part->weight + i * head.dim * width;
      convert_rows(weight, width, head.half, width, head.step, rows);
      convert_rows(weight + head.half * width, width, head.half, width, head.step, rows + panel / 2);
      if (by_input) pair_columns(rows, head.size, padded(width), by_input + i * panel);
      if (by_output)
        pair_rows(rows, padded(width), head.size, padded(width), reinterpret_cast<Word*>(by_output + i * panel));
    }
    if (by_input) by_input += part->n_heads * panel;
    if (by_output) by_output += part->n_heads * panel;
  }
#pragma omp barrier
}

template <typename T>
void heads_forward(const Shape& shape, const Stream& stream, const Part* parts, int n_threads) {
  const Head head(shape.head_dim);
  const int64_t ld = padded(shape.width), tile = tile_rows(shape.n_rows, n_threads), panel = head.size * ld;
  const int64_t n_heads = parts[0].n_heads + parts[1].n_heads + parts[2].n_heads;
  Memory memory(room<T>(n_heads * panel), room<T>(tile * ld) + room<float>(tile * head.size) + room<T>(panel),
                n_threads);
  T* words = memory.shared.take<T>(n_heads * panel);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
    T* normed = scratch.take<T>(tile * ld);
    float* products = scratch.take<float>(tile * head.size);
    pack_heads<T>(head, shape.width, parts, words, nullptr, scratch);
#pragma omp for schedule(static)
    for (int64_t start = 0; start < shape.n_rows; start += tile) {
      const int64_t n = std::min(tile, shape.n_rows - start);
      norm_rows(shape, stream, start, n, tile, normed);
      const T* weight = words;
      for (const Part* part = parts; part < parts + 3; part++)
        for (int64_t i = 0; i < part->n_heads; i++, weight += panel) {
          multiply(tile, head.size, ld, normed, ld, weight, products, false);
          T* out = static_cast<T*>(part->heads) + (start * part->n_heads + i) * head.dim;
          for (int64_t row = 0; row < n; row++) {
            T* to = out + row * part->n_heads * head.dim;
            fetch<1>(to + kAhead * part->n_heads * head.dim, head.dim);
            finish_head(head, *part, shape.eps, (start + row) % shape.n_tokens, products + row * head.size, to);
          }
        }
    }
    blas::brgemm_release();
  }
}

template <typename T>
void heads_backward(const Shape& shape, const Stream& stream, const Part* parts, int n_threads) {
  const Head head(shape.head_dim);
  const int64_t ld = padded(shape.width), tile = tile_rows(shape.n_rows, n_threads), panel = head.size * ld;
  const int64_t n_heads = parts[0].n_heads + parts[1].n_heads + parts[2].n_heads, all = n_heads * head.size;
  const int64_t n_sums = n_heads * panel + 3 * head.size + ld;  // weights, gains of the parts, gain of the stream
  const bool weights = parts[0].d_weight || parts[1].d_weight || parts[2].d_weight;
  n_threads = std::clamp<int64_t>((shape.n_rows + tile - 1) / tile, 1, n_threads);
  std::vector<float*> sums(n_threads);
  Memory memory(2 * room<T>(n_heads * panel),
                3 * room<T>(tile * ld) + room<T>(tile * all) + room<T>(tile * head.size) + room<float>(n_sums) +
                    room<float>(tile * std::max(ld, head.size)) + room<float>(head.size) + 2 * room<float>(panel), n_threads);
  T *by_input = memory.shared.take<T>(n_heads * panel), *by_output = memory.shared.take<T>(n_heads * panel);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch scratch = memory.of_thread();
    T *normed = scratch.take<T>(tile * ld), *normed_columns = scratch.take<T>(tile * ld);
    T *gradient = scratch.take<T>(tile * all), *gradient_words = scratch.take<T>(tile * head.size);
    float *products = scratch.take<float>(tile * std::max(ld, head.size)), *turned = scratch.take<float>(head.size);
    float *sum = scratch.take<float>(n_sums), *gain_sums = sum + n_heads * panel;
    sums[omp_get_thread_num()] = sum;
    std::fill_n(gain_sums, 3 * head.size + ld, 0.0f);
    pack_heads(head, shape.width, parts, by_input, by_output, scratch);
    bool more = false;
#pragma omp for schedule(static) nowait
    for (int64_t start = 0; start < shape.n_rows; start += tile) {
      const int64_t n = std::min(tile, shape.n_rows - start);
      norm_rows(shape, stream, start, n, tile, normed);
      if (weights) transpose_rows(normed, tile, ld, normed_columns, scratch);
      std::fill_n(gradient + n * all, (tile - n) * all, T(0.0f));
      int64_t column = 0;
      for (const Part* part = parts; part < parts + 3; part++)
        for (int64_t i = 0; i < part->n_heads; i++, column += head.size) {
          if (part->gain) multiply(tile, head.size, ld, normed, ld, by_input + column * ld, products, false);
          const T* from = static_cast<const T*>(part->heads) + (start * part->n_heads + i) * head.dim;
          for (int64_t row = 0; row < n; row++, from += part->n_heads * head.dim) {
            fetch<0>(from + kAhead * part->n_heads * head.dim, head.dim);
            finish_head_backward(head, *part, shape.eps, (start + row) % shape.n_tokens, products + row * head.size,
                                 from, gain_sums + (part - parts) * head.size, turned, gradient + row * all + column);
          }
          if (!part->d_weight) continue;
          pair_rows(gradient + column, all, tile, head.size, reinterpret_cast<Word*>(gradient_words));
          multiply(ld, head.size, tile, normed_columns, tile, gradient_words, sum + column * ld, more);
        }
      if (stream.dx || stream.d_gain) {
        multiply(tile, ld, all, gradient, all, by_output, products, false);
        norm_rows_backward(shape, stream, start, n, products, gain_sums + 3 * head.size);
      }
      more = true;
    }
    if (!more) std::fill_n(sum, n_heads * panel, 0.0f);
#pragma omp barrier
    float *inputs = scratch.take<float>(panel), *outputs = scratch.take<float>(panel);
    int64_t offset = 0;
    for (const Part* part = parts; part < parts + 3; offset += part++->n_heads * panel) {
      if (!part->d_weight) continue;
#pragma omp for schedule(static) nowait
      for (int64_t i = 0; i < part->n_heads; i++) {
        sum_threads(sums, offset + i * panel, panel, inputs);
        transpose(reinterpret_cast<const Word*>(inputs), head.size, ld, head.size, reinterpret_cast<Word*>(outputs),
                  ld);
        for (int64_t row = 0; row < head.dim; row++)
          std::copy_n(outputs + (row < head.half ? row : row - head.half + head.step) * ld, shape.width,
                      part->d_weight + (i * head.dim + row) * shape.width);
      }
    }
#pragma omp single
    {
      sum_threads(sums, n_heads * panel, 3 * head.size + ld, inputs);
      for (int64_t i = 0; i < 3; i++)
        if (parts[i].d_gain) join(head, inputs + i * head.size, parts[i].d_gain);
      if (stream.d_gain) std::copy_n(inputs + 3 * head.size, shape.width, stream.d_gain);
    }
    blas::brgemm_release();
  }
}

// Rows [n, width] as [tile, padded(width)]: themselves where they are that already.
template <typename T>
const T* whole_tile(const T* from, int64_t n, int64_t width, int64_t tile, Scratch& scratch) {
  const int64_t ld = padded(width);
  if (n == tile && width == ld) return from;
  T* to = scratch.take<T>(tile * ld);
  std::fill_n(to, tile * ld, T(0.0f));
  for (int64_t row = 0; row < n; row++) std::copy_n(from + row * width, width, to + row * ld);
  return to;
}

// out = x + y W^T with y [n_rows, inputs] and W [width, inputs].
template <typename T>
void add_forward(const Sizes& sizes, const T* y, const float* weight, const float* x, float* out, int n_threads) {
  const auto [n_rows, inputs, width] = sizes;
  const int64_t ld = padded(inputs), ld_out = padded(width), tile = tile_rows(n_rows, n_threads);
  Memory memory(room<T>(ld_out * ld), room<T>(kColumns * ld) + room<T>(tile * ld) + room<float>(tile * kColumns),
                n_threads);
  T* words = memory.shared.take<T>(ld_out * ld);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch memory_of_thread = memory.of_thread();
    float* products = memory_of_thread.take<float>(tile * kColumns);
    T* rows = memory_of_thread.take<T>(kColumns * ld);
#pragma omp for schedule(static)
    for (int64_t column = 0; column < width; column += kColumns) {
      const int64_t n = std::min(kColumns, width - column);
      convert_rows(weight + column * inputs, inputs, n, inputs, padded(n), rows);
      pair_columns(rows, padded(n), ld, words + column * ld);
    }
#pragma omp for schedule(static)
    for (int64_t start = 0; start < n_rows; start += tile) {
      Scratch scratch = memory_of_thread;
      const int64_t n = std::min(tile, n_rows - start);
      const T* from = whole_tile(y + start * inputs, n, inputs, tile, scratch);
      for (int64_t column = 0; column < width; column += kColumns) {
        const int64_t columns = std::min(kColumns, ld_out - column);
        multiply(tile, columns, ld, from, ld, words + column * ld, products, false);
        for (int64_t row = 0; row < n; row++)
          for (int64_t i = 0; i < columns; i += kLanes) {
            const int64_t at = (start + row) * width + column + i, lanes = width - column - i;
            store_some(out + at, load_some(x + at, lanes) + load<Floats>(products + row * columns + i), lanes);
          }
      }
    }
    blas::brgemm_release();
  }
}

template <typename T>
void add_backward(const Sizes& sizes, const float* gradient, const T* y, const float* weight, T* dy, float* d_weight,
                  int n_threads) {
  const auto [n_rows, inputs, width] = sizes;
  const int64_t ld = padded(inputs), ld_out = padded(width), tile = tile_rows(n_rows, n_threads);
  n_threads = std::clamp<int64_t>((n_rows + tile - 1) / tile, 1, n_threads);
  std::vector<float*> sums(n_threads);
  Memory memory(room<T>(ld_out * ld), 3 * room<T>(tile * ld_out) + room<T>(ld_out * kColumns) + room<T>(tile * ld) +
                                          room<T>(tile * kColumns) + room<float>(tile * kColumns) +
                                          room<float>(ld_out * ld) + room<float>(ld_out * kColumns), n_threads);
  T* words = memory.shared.take<T>(ld_out * ld);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch memory_of_thread = memory.of_thread();
    T *rows = memory_of_thread.take<T>(tile * ld_out), *columns_of_rows = memory_of_thread.take<T>(tile * ld_out);
    T *y_words = memory_of_thread.take<T>(tile * kColumns), *weight_rows = memory_of_thread.take<T>(ld_out * kColumns);
    float *products = memory_of_thread.take<float>(tile * kColumns), *sum = memory_of_thread.take<float>(ld_out * ld);
    sums[omp_get_thread_num()] = sum;
    if (dy)
#pragma omp for schedule(static)
      for (int64_t column = 0; column < inputs; column += kColumns) {
        const int64_t n = std::min(kColumns, inputs - column);
        convert_rows(weight + column, inputs, width, n, ld_out, weight_rows);
        pair_rows(weight_rows, padded(n), ld_out, padded(n), reinterpret_cast<Word*>(words + column * ld_out));
      }
    bool more = false;
#pragma omp for schedule(static) nowait
    for (int64_t start = 0; start < n_rows; start += tile) {
      Scratch scratch = memory_of_thread;
      const int64_t n = std::min(tile, n_rows - start);
      convert_rows(gradient + start * width, width, n, width, tile, rows);
      const T* from = nullptr;
      if (d_weight) {
        transpose_rows(rows, tile, ld_out, columns_of_rows, scratch);
        from = whole_tile(y + start * inputs, n, inputs, tile, scratch);
      }
      for (int64_t column = 0; column < inputs; column += kColumns) {
        const int64_t columns = std::min(kColumns, ld - column);
        if (d_weight) {
          pair_rows(from + column, ld, tile, columns, reinterpret_cast<Word*>(y_words));
          multiply(ld_out, columns, tile, columns_of_rows, tile, y_words, sum + column * ld_out, more);
        }
        if (!dy) continue;
        multiply(tile, columns, ld_out, rows, ld_out, words + column * ld_out, products, false);
        for (int64_t row = 0; row < n; row++)
          for (int64_t i = 0; i < columns; i += kLanes)
            store_some(dy + (start + row) * inputs + column + i, load<Floats>(products + row * columns + i),
                       inputs - column - i);
      }
      more = true;
    }
    if (!more) std::fill_n(sum, ld_out * ld, 0.0f);
#pragma omp barrier
    if (d_weight) {
      float* total = memory_of_thread.take<float>(ld_out * kColumns);
#pragma omp for schedule(static)
      for (int64_t column = 0; column < inputs; column += kColumns) {
        const int64_t n = std::min(kColumns, inputs - column);
        sum_threads(sums, column * ld_out, ld_out * padded(n), total);
        for (int64_t row = 0; row < width; row++)
          std::copy_n(total + row * padded(n), n, d_weight + row * inputs + column);
      }
    }
    blas::brgemm_release();
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

// `dy` and `d_weight` may be null: not asked for.
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

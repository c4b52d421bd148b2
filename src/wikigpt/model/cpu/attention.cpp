// Causal attention within documents on CPUs, after FlashAttention-2 (Dao 2023): scores live only in squares
// that stay in the cache, the backward pass computes them again.
//
// Scores are held transposed, a row for a key and a column for a query: what belongs to a query (maximum, sum,
// first visible key) is then a vector that lies beside them, no reduction runs across a vector, and of the
// five products of the backward pass none needs its square of scores transposed. Sums over keys or queries run over
// as many squares as possible while they stay in the processor's tile registers.
//
// Inside, tokens and heads are rounded up to panels of 32, with zeros. `attention.py` calls this file.

#include "tiles.h"

namespace {

constexpr int64_t kSquare = kPanel * kPanel;
constexpr int64_t kAtATime = 16 * kPanel;  // keys (forward) or queries (backward) whose scores are held
constexpr float kLog2E = 1.44269504f, kLn2 = 0.69314718f;

// One sequence of one head: rows `stride` elements apart.
template <typename T>
struct Rows {
  T* data;
  int64_t stride;
  T* operator[](int64_t row) const { return data + row * stride; }
};

struct Shape {
  int64_t n_batch, n_heads, n_kv_heads, n_tokens, head_dim;
  float scale;
  int64_t tokens() const { return panels(n_tokens) * kPanel; }
  int64_t dim() const { return panels(head_dim) * kPanel; }
  int64_t size() const { return tokens() * dim(); }
  // Between rows of tokens, not a power of two: rows would share a few places of the cache.
  int64_t stride() const { return tokens() + kPanel; }
};

// Which keys the queries of one panel see: columns of scores compare their row's key against this.
struct Visible {
  alignas(64) int32_t first[kPanel];  // INT_MAX where there is no query: it sees nothing
  alignas(64) int32_t span[kPanel];   // last visible key (the query itself) - first
  int32_t lowest = INT_MAX, highest = INT_MIN;
  int64_t start;

  // False if a query has no key to see.
  bool set(const int32_t* first_key, int64_t start_, int64_t n_tokens) {
    start = start_;
    for (int64_t i = 0; i < kPanel; i++) {
      bool exists = start + i < n_tokens;
      first[i] = exists ? first_key[start + i] : INT_MAX;
      span[i] = exists ? static_cast<int32_t>(start + i) - first[i] : 0;
      if (exists && (first[i] < 0 || span[i] < 0)) return false;
      if (exists) lowest = std::min(lowest, first[i]);
      highest = std::max(highest, first[i]);
    }
    return true;
  }

  bool any(int64_t key) const { return lowest < key + kPanel; }
  bool all(int64_t key) const { return highest <= key && key + kPanel <= start + 1; }
  Words at(int64_t column, int64_t key) const {
    return (Words)(splat(key) - load<Words>(first + column) <= load<Words>(span + column));
  }
};

// Rows [n, head_dim] as [panels of n, dim].
template <typename T>
void copy_rows(const Shape& shape, Rows<const T> from, int64_t n, T* to) {
  const int64_t dim = shape.dim(), padded = panels(n) * kPanel;
  if (shape.head_dim < dim || n < padded) std::fill_n(to, padded * dim, T(0.0f));
  constexpr int64_t step = sizeof(Words) / sizeof(T);
  for (int64_t row = 0; row < n; row++, to += dim) {
    fetch<0>(from[row + kAhead], shape.head_dim);
    int64_t d = 0;
    for (; d + step <= shape.head_dim; d += step) store(to + d, load<Words>(from[row] + d));
    std::copy_n(from[row] + d, shape.head_dim - d, to + d);
  }
}

// The transpose [dim, kPanel] of a panel of rows [kPanel, dim], in words: the right-hand side of a product.
template <typename T>
void turn_panel(const T* rows, int64_t dim, T* words) {
  transpose(reinterpret_cast<const Word*>(rows), dim / kPair<T>, kPanel, dim / kPair<T>,
            reinterpret_cast<Word*>(words), kPanel);
}

// X^T [dim, stride] of X [tokens, dim]: the left-hand side of a product.
template <typename T>
void turn_rows(const Shape& shape, const T* x, T* turned, Scratch scratch) {
  const int64_t dim = shape.dim(), n = shape.tokens();
  Word* words = scratch.take<Word>(n / kPair<T> * dim);
  pair_rows(x, dim, n, dim, words);
  transpose(words, dim, n / kPair<T>, dim, reinterpret_cast<Word*>(turned), shape.stride() / kPair<T>);
}

// Columns [head_dim, kPanel] of floats, times a factor each, as rows [n, head_dim] to where they belong.
template <typename T>
void write_columns(const Shape& shape, const float* from, const float* factors, int64_t n, Rows<T> to, Word* words) {
  for (int64_t d = 0; d < shape.head_dim; d += kPair<T>)
    for (int64_t i = 0; i < kPanel; i += kLanes) {
      Floats factor = load<Floats>(factors + i);
      auto at = [&](int64_t row) { return load<Floats>(from + row * kPanel + i) * factor; };
      Word* word = words + d / kPair<T> * kPanel + i;
      if constexpr (kPair<T> == 1)
        store(word, at(d));
      else
        store(word, rounded(at(d)) >> 16 | (rounded(at(d + 1)) & 0xffff0000u));
    }
  transpose(words, kPanel, shape.head_dim / kPair<T>, n, reinterpret_cast<Word*>(to.data), to.stride / kPair<T>);
}

// The maximum m of each query moves on.
template <bool masked>
void raise(const float* scores, float scale, const Visible& visible, int64_t key, float* m) {
  for (int64_t column = 0; column < kPanel; column += kLanes) {
    const Floats before = load<Floats>(m + column);
    Floats top[2] = {before, before};
    for (int64_t row = 0; row < kPanel; row += 2)
      for (int64_t i = 0; i < 2; i++) {
        Floats s = load<Floats>(scores + (row + i) * kPanel + column) * scale;
        if constexpr (masked) s = visible.at(column, key + row + i) ? s : before;
        top[i] = larger(top[i], s);
      }
    store(m + column, larger(top[0], top[1]));
  }
}

// P = 2^(scores - m) of one square into `words`; the sum l of each query moves on.
template <bool masked, typename T>
void exponentials(const float* scores, float scale, const Visible& visible, int64_t key, const float* m, float* l,
                  T* words) {
  for (int64_t column = 0; column < kPanel; column += kLanes) {
    const Floats top = load<Floats>(m + column);
    Floats sum = load<Floats>(l + column);
    auto probability = [&](int64_t row) {
      Floats p = exp2(load<Floats>(scores + row * kPanel + column) * scale - top);
      if constexpr (masked) p = visible.at(column, key + row) ? p : Floats{};
      sum += p;
      return p;
    };
    for (int64_t row = 0; row < kPanel; row += kPair<T>) {
      auto word = reinterpret_cast<Word*>(words) + row / kPair<T> * kPanel + column;
      if constexpr (kPair<T> == 1) {
        store(word, probability(row));
      } else {
        Words low = rounded(probability(row)) >> 16, high = rounded(probability(row + 1)) & 0xffff0000u;
        store(word, low | high);
      }
    }
    store(l + column, sum);
  }
}

// Columns [n, kPanel] times a factor each.
void scale_columns(float* x, int64_t n, const float* factors) {
  for (int64_t row = 0; row < n; row++, x += kPanel)
    for (int64_t i = 0; i < kPanel; i += kLanes) store(x + i, load<Floats>(x + i) * load<Floats>(factors + i));
}

template <typename T>
bool forward_head(const Shape& shape, Rows<const T> q, const T* k, const T* vt, const int32_t* first_key, Rows<T> out,
                  float* lse, const Multiplier& multiply, Scratch scratch) {
  const int64_t n_tokens = shape.n_tokens, dim = shape.dim();
  const float scale = shape.scale * kLog2E;
  T *rows = scratch.take<T>(dim * kPanel), *qt = scratch.take<T>(dim * kPanel);
  float *scores = scratch.take<float>(std::max(kAtATime, dim) * kPanel), *o = scratch.take<float>(dim * kPanel);
  T* p = scratch.take<T>(kAtATime * kPanel);
  float *m = scratch.take<float>(kPanel), *l = scratch.take<float>(kPanel), *shrink = scratch.take<float>(kPanel);
  for (int64_t start = 0; start < n_tokens; start += kPanel) {
    const int64_t n = std::min(kPanel, n_tokens - start);
    Visible visible;
    if (!visible.set(first_key, start, n_tokens)) return false;
    copy_rows(shape, Rows<const T>{q[start], q.stride}, n, rows);
    turn_panel(rows, dim, qt);
    std::fill_n(m, kPanel, -FLT_MAX / 4);
    std::fill_n(l, kPanel, 0.0f);
    bool more = false;
    for (int64_t first = visible.lowest / kPanel * kPanel; first < start + n; first += kAtATime, more = true) {
      const int64_t last = std::min(first + kAtATime, start + kPanel);
      std::copy_n(m, kPanel, shrink);
      for (int64_t key = first; key < last; key += kPanel) {
        float* square = scores + (key - first) * kPanel;
        multiply(dim, k + key * dim, dim, qt, square, kPanel, false);
        (visible.all(key) ? raise<false> : raise<true>)(square, scale, visible, key, m);
      }
      if (more) {
        for (int64_t i = 0; i < kPanel; i += kLanes)
          store(shrink + i, exp2(load<Floats>(shrink + i) - load<Floats>(m + i)));
        scale_columns(l, 1, shrink);
        scale_columns(o, dim, shrink);
      }
      for (int64_t key = first; key < last; key += kPanel) {
        auto step = visible.all(key) ? exponentials<false, T> : exponentials<true, T>;
        step(scores + (key - first) * kPanel, scale, visible, key, m, l, p + (key - first) * kPanel);
      }
      for (int64_t d = 0; d < dim; d += kPanel)
        multiply(last - first, vt + d * shape.stride() + first, shape.stride(), p, o + d * kPanel, kPanel, more);
    }
    for (int64_t i = 0; i < n; i++) lse[start + i] = m[i] * kLn2 + std::log(l[i]);
    for (int64_t i = 0; i < kPanel; i++) l[i] = 1 / l[i];
    write_columns(shape, o, l, n, Rows<T>{out[start], out.stride}, reinterpret_cast<Word*>(scores));
  }
  return true;
}

// P and dS of one square: P as rows, dS as rows and as words.
template <bool masked, typename T>
void gradient_square(const float* scores, const float* dp, float scale, const Visible& visible, int64_t key,
                     const float* lse, const float* delta, T* p_rows, T* ds_rows, int64_t stride, T* ds_words) {
  for (int64_t column = 0; column < kPanel; column += kLanes) {
    const Floats top = load<Floats>(lse + column), mean = load<Floats>(delta + column);
    auto gradient = [&](int64_t row) {
      const int64_t at = row * kPanel + column;
      Floats p = exp2(load<Floats>(scores + at) * scale - top);
      Floats ds = p * (load<Floats>(dp + at) - mean);
      if constexpr (masked) {
        Words seen = visible.at(column, key + row);
        p = seen ? p : Floats{};
        ds = seen ? ds : Floats{};
      }
      store_row(p_rows + row * stride + column, p);
      store_row(ds_rows + row * stride + column, ds);
      return ds;
    };
    for (int64_t row = 0; row < kPanel; row += kPair<T>) {
      auto word = reinterpret_cast<Word*>(ds_words) + row / kPair<T> * kPanel + column;
      if constexpr (kPair<T> == 1) {
        store(word, gradient(row));
      } else {
        Words low = rounded(gradient(row)) >> 16, high = rounded(gradient(row + 1)) & 0xffff0000u;
        store(word, low | high);
      }
    }
  }
}

// A matrix X of queries as the right-hand side of products, in words: X, panels of its columns one after the other,
// and X^T, panel by panel of queries.
template <typename T>
struct QueryWords {
  T *straight, *turned;

  QueryWords(const Shape& shape, const T* x, Scratch& scratch)
      : straight(scratch.take<T>(shape.size())), turned(scratch.take<T>(shape.size())) {
    const int64_t dim = shape.dim(), tokens = shape.tokens();
    for (int64_t d = 0; d < dim; d += kPanel)
      pair_rows(x + d, dim, tokens, kPanel, reinterpret_cast<Word*>(straight + d * tokens));
    for (int64_t start = 0; start < tokens; start += kPanel) turn_panel(x + start * dim, dim, turned + start * dim);
  }
};

// K, V as rows and K turned; sums of their gradients [tokens, dim].
template <typename T>
struct KeyHead {
  T *k, *v, *kt;
  float *dk, *dv;
};

// dQ of one query head; what it adds to dK and dV of its key head is left in the sums, added to what is there if
// `add`.
template <typename T>
void backward_head(const Shape& shape, Rows<const T> q, const KeyHead<T>& keys, const Visible* visible,
                   Rows<const T> out, const float* lse, Rows<const T> dout, Rows<T> dq, bool add,
                   const Multiplier& multiply, Scratch scratch) {
  const int64_t n_tokens = shape.n_tokens, dim = shape.dim(), tokens = shape.tokens();
  const float scale = shape.scale * kLog2E;
  constexpr int64_t stride = kAtATime + kPanel;
  T* rows = scratch.take<T>(shape.size());
  copy_rows(shape, q, n_tokens, rows);
  const QueryWords<T> query(shape, rows, scratch);
  copy_rows(shape, dout, n_tokens, rows);
  const QueryWords<T> gradient(shape, rows, scratch);
  float *top = scratch.take<float>(tokens), *delta = scratch.take<float>(tokens);
  std::fill_n(top, tokens, 0.0f);
  std::fill_n(delta, tokens, 0.0f);
  for (int64_t t = 0; t < n_tokens; t++) {
    top[t] = lse[t] * kLog2E;
    Floats sums{};
    int64_t d = 0;
    fetch<0>(out[t + kAhead], shape.head_dim);
    for (; d + kLanes <= shape.head_dim; d += kLanes) sums += load_row(out[t] + d) * load_row(rows + t * dim + d);
    delta[t] = total(sums);
    for (; d < shape.head_dim; d++) delta[t] += static_cast<float>(out[t][d]) * static_cast<float>(rows[t * dim + d]);
  }
  float *scores = scratch.take<float>(kSquare), *dp = scratch.take<float>(kSquare);
  T *p_rows = scratch.take<T>(kPanel * stride), *ds_rows = scratch.take<T>(kPanel * stride);
  T* ds_words = scratch.take<T>(kSquare);
  float* dqt = scratch.take<float>(shape.size());
  std::fill_n(dqt, shape.size(), 0.0f);
  for (int64_t key = 0; key < tokens; key += kPanel) {
    bool more = add;
    for (int64_t start = key; start < tokens;) {
      if (!visible[start / kPanel].any(key)) {
        start += kPanel;
        continue;
      }
      const int64_t first = start;
      for (; start < std::min(first + kAtATime, tokens) && visible[start / kPanel].any(key); start += kPanel) {
        const Visible& seen = visible[start / kPanel];
        multiply(dim, keys.k + key * dim, dim, query.turned + start * dim, scores, kPanel, false);
        multiply(dim, keys.v + key * dim, dim, gradient.turned + start * dim, dp, kPanel, false);
        auto step = seen.all(key) ? gradient_square<false, T> : gradient_square<true, T>;
        step(scores, dp, scale, seen, key, top + start, delta + start, p_rows + start - first,
             ds_rows + start - first, stride, ds_words);
        for (int64_t d = 0; d < dim; d += kPanel)
          multiply(kPanel, keys.kt + d * shape.stride() + key, shape.stride(), ds_words,
                   dqt + start * dim + d * kPanel, kPanel, true);
      }
      for (int64_t d = 0; d < dim; d += kPanel) {
        const int64_t at = d * tokens + first * kPanel, to = key * dim + d;
        multiply(start - first, p_rows, stride, gradient.straight + at, keys.dv + to, dim, more);
        multiply(start - first, ds_rows, stride, query.straight + at, keys.dk + to, dim, more);
      }
      more = true;
    }
  }
  std::fill_n(scores, kPanel, shape.scale);
  for (int64_t start = 0; start < n_tokens; start += kPanel)
    write_columns(shape, dqt + start * dim, scores, std::min(kPanel, n_tokens - start),
                  Rows<T>{dq[start], dq.stride}, reinterpret_cast<Word*>(rows));
}

// Rows [n_tokens, head_dim] of [tokens, dim], times a factor, to where they belong.
template <typename T>
void write_rows(const Shape& shape, const float* from, float factor, Rows<T> to) {
  for (int64_t t = 0; t < shape.n_tokens; t++, from += shape.dim()) {
    int64_t d = 0;
    fetch<1>(to[t + kAhead], shape.head_dim);
    for (; d + kLanes <= shape.head_dim; d += kLanes) store_row(to[t] + d, load<Floats>(from + d) * factor);
    for (; d < shape.head_dim; d++) to[t][d] = static_cast<T>(from[d] * factor);
  }
}

// A tensor [batch, heads, tokens, head_dim] whose last dimension is dense.
template <typename T>
struct Heads {
  T* data;
  int64_t batch_stride, head_stride, token_stride;
  Heads(const void* pointer, const int64_t* strides)
      : data(static_cast<T*>(const_cast<void*>(pointer))),
        batch_stride(strides[0]),
        head_stride(strides[1]),
        token_stride(strides[2]) {}
  Rows<T> at(int64_t batch, int64_t head) const {
    return {data + batch * batch_stride + head * head_stride, token_stride};
  }
};

template <typename T>
bool forward(const Shape& s, Heads<const T> q, Heads<const T> k, Heads<const T> v, const int32_t* first_key,
             Heads<T> out, float* lse, int n_threads) {
  const int64_t group = s.n_heads / s.n_kv_heads, n_tokens = s.n_tokens, dim = s.dim();
  const size_t bytes = sizeof(T) * (3 * s.size() + s.stride() * dim + 2 * dim * kPanel + kAtATime * kPanel) +
                       sizeof(float) * ((std::max(kAtATime, dim) + dim + 3) * kPanel) + 4096;
  bool valid = true;
  const Memory memories(0, bytes, n_threads);
#pragma omp parallel num_threads(n_threads) reduction(&& : valid)
  {
    Scratch memory = memories.of_thread();
    const Multiplier multiply;
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < s.n_batch * s.n_kv_heads; task++) {
      const int64_t batch = task / s.n_kv_heads, kv_head = task % s.n_kv_heads;
      Scratch scratch = memory;
      T *k_rows = scratch.take<T>(s.size()), *v_rows = scratch.take<T>(s.size());
      T* vt = scratch.take<T>(s.stride() * dim);
      copy_rows(s, k.at(batch, kv_head), n_tokens, k_rows);
      copy_rows(s, v.at(batch, kv_head), n_tokens, v_rows);
      turn_rows(s, v_rows, vt, scratch);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        valid = forward_head(s, q.at(batch, head), k_rows, vt, first_key + batch * n_tokens, out.at(batch, head),
                             lse + (batch * s.n_heads + head) * n_tokens, multiply, scratch) && valid;
    }
  }
  return valid;
}

template <typename T>
void backward(const Shape& s, Heads<const T> q, Heads<const T> k, Heads<const T> v, const int32_t* first_key,
              Heads<const T> out, const float* lse, Heads<const T> dout, Heads<T> dq, Heads<T> dk, Heads<T> dv,
              int n_threads) {
  const int64_t group = s.n_heads / s.n_kv_heads, n_tokens = s.n_tokens, tokens = s.tokens();
  const size_t bytes = sizeof(T) * (7 * s.size() + s.stride() * s.dim() + 2 * kPanel * (kAtATime + kPanel) + kSquare) +
                       sizeof(float) * (3 * s.size() + 2 * tokens + 2 * kSquare) +
                       tokens / kPanel * sizeof(Visible) + 4096;
  const Memory memories(0, bytes, n_threads);
#pragma omp parallel num_threads(n_threads)
  {
    Scratch memory = memories.of_thread();
    const Multiplier multiply;
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < s.n_batch * s.n_kv_heads; task++) {
      const int64_t batch = task / s.n_kv_heads, kv_head = task % s.n_kv_heads;
      Scratch scratch = memory;
      Visible* visible = scratch.take<Visible>(tokens / kPanel);
      for (int64_t start = 0; start < tokens; start += kPanel)
        (new (visible + start / kPanel) Visible)->set(first_key + batch * n_tokens, start, n_tokens);
      KeyHead<T> keys{scratch.take<T>(s.size()), scratch.take<T>(s.size()), scratch.take<T>(s.stride() * s.dim()),
                      scratch.take<float>(s.size()), scratch.take<float>(s.size())};
      copy_rows(s, k.at(batch, kv_head), n_tokens, keys.k);
      copy_rows(s, v.at(batch, kv_head), n_tokens, keys.v);
      turn_rows(s, keys.k, keys.kt, scratch);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        backward_head(s, q.at(batch, head), keys, visible, out.at(batch, head),
                      lse + (batch * s.n_heads + head) * n_tokens, dout.at(batch, head), dq.at(batch, head),
                      head > kv_head * group, multiply, scratch);
      write_rows(s, keys.dk, s.scale, dk.at(batch, kv_head));
      write_rows(s, keys.dv, 1.0f, dv.at(batch, kv_head));
    }
  }
}

}  // namespace

extern "C" {

// A tensor as Python passes it: where it lies and its first three strides, in elements.
struct Strided {
  void* data;
  int64_t strides[3];
};

// 1, or 0 where a first key is negative or comes after its own token.
int64_t wikigpt_attention_forward(int bf16, const Shape* s, const Strided* q, const Strided* k, const Strided* v,
                                  const int32_t* first_key, const Strided* out, float* lse, int n_threads) {
  auto run = [&](auto zero) -> int64_t {
    using T = decltype(zero);
    return forward<T>(*s, {q->data, q->strides}, {k->data, k->strides}, {v->data, v->strides}, first_key,
                      {out->data, out->strides}, lse, n_threads);
  };
  return guarded([&] { return bf16 ? run(BFloat16()) : run(0.0f); });
}

// What `forward` accepted it accepts: always 1.
int64_t wikigpt_attention_backward(int bf16, const Shape* s, const Strided* q, const Strided* k, const Strided* v,
                                   const int32_t* first_key, const Strided* out, const float* lse,
                                   const Strided* dout, const Strided* dq, const Strided* dk, const Strided* dv,
                                   int n_threads) {
  auto run = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(*s, {q->data, q->strides}, {k->data, k->strides}, {v->data, v->strides}, first_key,
                {out->data, out->strides}, lse, {dout->data, dout->strides}, {dq->data, dq->strides},
                {dk->data, dk->strides}, {dv->data, dv->strides}, n_threads);
    return 1;
  };
  return guarded([&] { return bf16 ? run(BFloat16()) : run(0.0f); });
}
}

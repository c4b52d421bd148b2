// Cross-entropy of a language model's head on CPUs without the logits of all rows, after Cut Cross-Entropy (Wijmans
// et al. 2024): the forward pass keeps two numbers a row, the backward pass computes logits again.
//
// Each thread takes blocks of the vocabulary, and all rows for each: the gradient of a block of the head stays in
// the cache until it is complete, and the head is converted once. Logits are held transposed, a line for a word and
// a column for a row of hidden states: no reduction runs across a vector, and the head is the left-hand side of all
// products, which needs no packing. Rows without a target are left out before anything is computed.
// `cross_entropy.py` calls this file.

#include "vectors.h"

namespace {

constexpr int64_t kIgnored = -100;  // a target that carries no loss
constexpr int64_t kTile = 512;   // rows in the products of the backward pass
constexpr int64_t kPanel = 64;   // rows and
constexpr int64_t kSlice = 128;  // words of the logits that exist in fp32 at a time: 32 KB stay in the first cache
constexpr float kLog2E = 1.44269504f;

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
int64_t round_up(int64_t n, int64_t to) { return divide_up(n, to) * to; }

struct Inputs {
  int64_t n_rows, width, vocab;
  const float *hidden, *head, *bias;  // bias may be null
  const int64_t* targets;
};

// What is kept of each row: its largest logit, and the logarithm of the sum of exp(logit - largest). Apart they are
// exact where the target has almost all probability, their sum is not.
struct Kept {
  float *top, *log_sum;
};

// How the work is cut for a number of threads.
struct Cut {
  int64_t words;  // in a block: at widths 256 and 768 faster with 512 than with half of it, less where threads are many
  int64_t rows;   // at a time: so many that the threads' shares of dHidden take 64 MB in all

  Cut(const Inputs& in, int n_threads) {
    words = std::min(int64_t(512), round_up(divide_up(in.vocab, n_threads), kSlice));
    rows = std::max((int64_t(1) << 24) / (in.width * n_threads) / kTile, int64_t(1)) * kTile;
  }
};

// Floats as T, then zeros up to `ld`.
template <typename T>
void convert_row(const float* from, int64_t width, T* to, int64_t ld) {
  int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes) store_row(to + d, load<Floats>(from + d));
  for (; d < width; d++) to[d] = static_cast<T>(from[d]);
  for (; d < ld; d++) to[d] = static_cast<T>(0.0f);
}

// Up to kTile rows with targets, as right-hand sides of products; `n` counts rows of zeros at the end too.
template <typename T>
struct Tile {
  T *columns, *rows;  // X^T in panels [depth, kPanel] and, in the backward pass, X [n, width]
  int64_t* index;     // which rows these are, in each panel by rising target
  int32_t* targets;
  int64_t count, n;

  void take(int64_t count_, int64_t depth, bool with_rows, Scratch& scratch) {
    count = count_;
    n = round_up(count, kPanel);
    columns = scratch.take<T>(n * depth);
    rows = with_rows ? scratch.take<T>(n * depth) : nullptr;
    index = scratch.take<int64_t>(count);
    targets = scratch.take<int32_t>(count);
  }

  void set(const Inputs& in, const int64_t* chosen, int64_t depth, Scratch scratch) {
    std::copy_n(chosen, count, index);
    for (int64_t i = 0; i < count; i += kPanel)
      std::sort(index + i, index + std::min(count, i + kPanel), [&](int64_t a, int64_t b) {
        return std::pair(in.targets[a], a) < std::pair(in.targets[b], b);
      });
    T* dense = scratch.take<T>(n * depth);
    for (int64_t i = 0; i < count; i++) {
      targets[i] = static_cast<int32_t>(in.targets[index[i]]);
      convert_row(in.hidden + index[i] * in.width, in.width, dense + i * depth, depth);
    }
    std::fill_n(dense + count * depth, (n - count) * depth, static_cast<T>(0.0f));
    for (int64_t i = 0; i < n; i += kPanel)
      transpose(reinterpret_cast<const Word*>(dense + i * depth), depth / kPair<T>, kPanel, depth / kPair<T>,
                reinterpret_cast<Word*>(columns + i * depth), kPanel);
    if (rows) pair_rows(dense, depth, n, in.width, reinterpret_cast<Word*>(rows));
  }
};

// Rows [start, start + count) of those with targets, as tiles.
template <typename T>
struct Tiles {
  std::vector<Tile<T>> tiles;
  const int64_t* chosen;
  int64_t depth;

  static size_t bytes(const Inputs& in, int64_t rows) {
    return round_up(rows, kPanel) * (2 * sizeof(T) * (in.width + 1) + 12) + (rows / kTile + 1) * 256;
  }

  Tiles(const Inputs& in, const int64_t* chosen_, int64_t n_rows, bool with_rows, Scratch& scratch)
      : tiles(divide_up(n_rows, kTile)), chosen(chosen_), depth(round_up(in.width, kPair<T>)) {
    for (int64_t i = 0; i < size(); i++)
      tiles[i].take(std::min(kTile, n_rows - i * kTile), depth, with_rows, scratch);
  }

  int64_t size() const { return tiles.size(); }
  const Tile<T>& operator[](int64_t i) const { return tiles[i]; }
  void set(const Inputs& in, int64_t i, Scratch scratch) { tiles[i].set(in, chosen + i * kTile, depth, scratch); }
};

// A block of the head W as the left-hand side of products.
template <typename T>
struct Block {
  int64_t start, words, ld;
  T *rows, *columns;  // W [words, depth] and, in the backward pass, W^T [width, ld]
  float* bias;        // zeros where there is none

  static size_t bytes(const Cut& cut, const Inputs& in) {
    return cut.words * (3 * sizeof(T) * (in.width + 1) + sizeof(float)) + 512;
  }

  Block(const Cut& cut, const Inputs& in, bool with_columns, Scratch& scratch) : ld(cut.words) {
    const int64_t depth = round_up(in.width, kPair<T>);
    rows = scratch.take<T>(ld * depth);
    columns = with_columns ? scratch.take<T>(ld * in.width) : nullptr;
    bias = scratch.take<float>(ld);
  }

  void set(const Inputs& in, int64_t number, Scratch scratch) {
    const int64_t depth = round_up(in.width, kPair<T>);
    start = number * ld;
    words = std::min(ld, in.vocab - start);
    for (int64_t w = 0; w < words; w++) {
      convert_row(in.head + (start + w) * in.width, in.width, rows + w * depth, depth);
      bias[w] = in.bias ? in.bias[start + w] : 0.0f;
    }
    if (!columns) return;
    Word* pairs = scratch.take<Word>(divide_up(words, kPair<T>) * depth);
    pair_rows(rows, depth, words, depth, pairs);
    transpose(pairs, depth, divide_up(words, kPair<T>), in.width, reinterpret_cast<Word*>(columns), ld / kPair<T>);
  }
};

// Visits the columns of a panel whose targets are among the words [first, first + words).
template <typename T, typename F>
void each_target(const Tile<T>& tile, int64_t panel, int64_t first, int64_t words, F visit) {
  const int32_t *begin = tile.targets + panel, *end = tile.targets + std::min(tile.count, panel + kPanel);
  for (auto at = std::lower_bound(begin, end, first); at < end && *at < first + words; at++)
    visit(*at - first, at - begin);
}

// Maximum m and sum l of exp(logit - m) of each column move on by a slice of logits [words, kPanel].
void add_slice(const float* logits, const float* bias, int64_t words, float* m, float* l) {
  constexpr int kStrip = 4;  // vectors at a time, so that all stay in registers
  for (int64_t column = 0; column < kPanel; column += kStrip * kLanes) {
    auto at = [&](int64_t word, int j) {
      return load<Floats>(logits + word * kPanel + column + j * kLanes) + bias[word];
    };
    Floats top[kStrip], sum[kStrip];
    for (int j = 0; j < kStrip; j++) top[j] = load<Floats>(m + column + j * kLanes);
    for (int64_t word = 0; word < words; word++)
      for (int j = 0; j < kStrip; j++) top[j] = larger(top[j], at(word, j));
    for (int j = 0; j < kStrip; j++)
      sum[j] = load<Floats>(l + column + j * kLanes) * exp2((load<Floats>(m + column + j * kLanes) - top[j]) * kLog2E);
    for (int64_t word = 0; word < words; word++)
      for (int j = 0; j < kStrip; j++) sum[j] += exp2((at(word, j) - top[j]) * kLog2E);
    for (int j = 0; j < kStrip; j++) {
      store(m + column + j * kLanes, top[j]);
      store(l + column + j * kLanes, sum[j]);
    }
  }
}

// Returns the loss.
template <typename T>
double forward(const Inputs& in, const std::vector<int64_t>& chosen, const Kept& kept, int n_threads) {
  const Cut cut(in, n_threads);
  const int64_t n_chosen = chosen.size(), n_blocks = divide_up(in.vocab, cut.words);
  const int64_t depth = round_up(in.width, kPair<T>);
  double loss = 0;
  for (int64_t start = 0; start < n_chosen; start += cut.rows) {
    const int64_t n_rows = std::min(cut.rows, n_chosen - start), padded = round_up(n_rows, kPanel);
    const size_t shared_bytes = Tiles<T>::bytes(in, n_rows) + 4 * padded + 4096;
    const size_t bytes =
        Block<T>::bytes(cut, in) + kTile * depth * sizeof(T) + 4 * (2 * padded + kSlice * kPanel) + 4096;
    const Memory memory(shared_bytes, bytes, n_threads);
    Scratch shared = memory.shared;
    Tiles<T> tiles(in, chosen.data() + start, n_rows, false, shared);
    float* target_logits = shared.take<float>(padded);
    std::vector<std::pair<float*, float*>> sums(n_threads);  // m and l of each thread
#pragma omp parallel num_threads(n_threads)
    {
      Scratch scratch = omp_get_thread_num() ? memory.of_thread() : shared;
      float *m = scratch.take<float>(padded), *l = scratch.take<float>(padded);
      std::fill_n(m, padded, -FLT_MAX / 4);
      std::fill_n(l, padded, 0.0f);
      sums[omp_get_thread_num()] = {m, l};
      float* logits = scratch.take<float>(kSlice * kPanel);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < tiles.size(); i++) tiles.set(in, i, scratch);
      Block<T> block(cut, in, false, scratch);
#pragma omp for schedule(static)
      for (int64_t number = 0; number < n_blocks; number++) {
        block.set(in, number, scratch);
        for (int64_t row = 0; row < padded; row += kPanel)
          for (int64_t word = 0; word < block.words; word += kSlice) {
            const Tile<T>& tile = tiles[row / kTile];
            const int64_t panel = row % kTile, words = std::min(kSlice, block.words - word);
            const T* columns = tile.columns + panel * depth;
            multiply(words, kPanel, depth, block.rows + word * depth, depth, columns, logits, false);
            add_slice(logits, block.bias + word, words, m + row, l + row);
            each_target(tile, panel, block.start + word, words, [&](int64_t w, int64_t column) {
              target_logits[row + column] = logits[w * kPanel + column] + block.bias[word + w];
            });
          }
      }
      blas::brgemm_release();
    }
    for (int64_t i = 0; i < n_rows; i++) {
      float top = -FLT_MAX / 4, sum = 0;
      for (auto [m, l] : sums)
        if (m) top = std::max(top, m[i]);
      for (auto [m, l] : sums)
        if (m) sum += l[i] * std::exp(m[i] - top);
      const int64_t row = tiles[i / kTile].index[i % kTile];
      kept.top[row] = top;
      kept.log_sum[row] = std::log(sum);
      loss += (top - target_logits[i]) + kept.log_sum[row];
    }
  }
  return loss;
}

// p = exp(logit) / 2^lse of a slice of logits [words, kPanel], as lines and as words of pairs of lines, `ld` apart (in
// fp32 these are the same), and added up to `sums` of each line where there are any.
template <typename T>
void probabilities(const float* logits, const float* bias, const float* lse, int64_t words, T* lines, T* pairs,
                   int64_t ld, float* sums) {
  for (int64_t word = 0; word < words; word += kPair<T>) {
    Floats total[2] = {};
    for (int64_t column = 0; column < kPanel; column += kLanes) {
      auto line = [&](int64_t at) {
        Floats x = load<Floats>(logits + at * kPanel + column) * kLog2E;
        Floats p = exp2(x + (bias[at] * kLog2E - load<Floats>(lse + column)));
        store_row(lines + at * ld + column, p);
        total[at - word] += p;
        return p;
      };
      if constexpr (kPair<T> == 1) {
        line(word);
      } else {
        Words low = rounded(line(word)) >> 16;
        Words high = word + 1 < words ? rounded(line(word + 1)) & 0xffff0000u : Words{};
        store(reinterpret_cast<Word*>(pairs + word * ld) + column, low | high);
      }
    }
    for (int64_t w = 0; sums && w < std::min(kPair<T>, words - word); w++)
      for (int i = 0; i < kLanes; i++) sums[word + w] += total[w][i];
  }
}

struct Gradients {
  float *hidden, *head, *bias;  // null where not asked for
};

template <typename T>
void backward(const Inputs& in, const std::vector<int64_t>& chosen, const Kept& kept, float factor,
              const Gradients& grad, int n_threads) {
  const Cut cut(in, n_threads);
  const int64_t n_chosen = chosen.size(), n_blocks = divide_up(in.vocab, cut.words);
  const int64_t depth = round_up(in.width, kPair<T>), width = in.width;
  if (grad.head && !n_chosen) std::fill_n(grad.head, in.vocab * width, 0.0f);
  if (grad.bias) std::fill_n(grad.bias, in.vocab, 0.0f);
  for (int64_t i = 0; grad.hidden && i < in.n_rows; i++)
    if (in.targets[i] == kIgnored) std::fill_n(grad.hidden + i * width, width, 0.0f);
  for (int64_t start = 0; start < n_chosen; start += cut.rows) {
    const int64_t n_rows = std::min(cut.rows, n_chosen - start), padded = round_up(n_rows, kPanel);
    const bool last = start + n_rows == n_chosen;
    const size_t shared_bytes = Tiles<T>::bytes(in, n_rows) + 4 * padded + 4096;
    const size_t bytes = Block<T>::bytes(cut, in) + 4 * kTile * depth + 4 * (padded * width + kSlice * kPanel) +
                         2 * sizeof(T) * cut.words * kTile + 4096;
    const Memory memory(shared_bytes, bytes, n_threads);
    Scratch shared = memory.shared;
    Tiles<T> tiles(in, chosen.data() + start, n_rows, true, shared);
    float* lse = shared.take<float>(padded);  // in base 2; p = 0 of columns that are no rows
    std::vector<float*> shares(n_threads);  // of dHidden^T: [width, n] for each tile; null of idle threads
#pragma omp parallel num_threads(n_threads)
    {
      Scratch scratch = omp_get_thread_num() ? memory.of_thread() : shared;
      float* share = grad.hidden ? scratch.take<float>(padded * width) : nullptr;
      float* logits = scratch.take<float>(kSlice * kPanel);
      T* lines = scratch.take<T>(cut.words * kTile);
      T* pairs = kPair<T> == 1 ? lines : scratch.take<T>(cut.words * kTile);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < tiles.size(); i++) {
        tiles.set(in, i, scratch);
        for (int64_t column = 0; column < tiles[i].n; column++) {
          int64_t row = column < tiles[i].count ? tiles[i].index[column] : -1;
          lse[i * kTile + column] = row < 0 ? FLT_MAX / 4 : (kept.top[row] + kept.log_sum[row]) * kLog2E;
        }
      }
      Block<T> block(cut, in, grad.hidden, scratch);
#pragma omp for schedule(static)
      for (int64_t number = 0; number < n_blocks; number++) {
        block.set(in, number, scratch);
        float* dhead = grad.head ? grad.head + block.start * width : nullptr;
        float* dbias = grad.bias ? grad.bias + block.start : nullptr;
        for (int64_t i = 0; i < tiles.size(); i++) {
          const Tile<T>& tile = tiles[i];
          for (int64_t panel = 0; panel < tile.n; panel += kPanel)
            for (int64_t word = 0; word < block.words; word += kSlice) {
              const int64_t words = std::min(kSlice, block.words - word);
              const T* columns = tile.columns + panel * depth;
              multiply(words, kPanel, depth, block.rows + word * depth, depth, columns, logits, false);
              T *line = lines + word * tile.n + panel, *pair = pairs + word * tile.n + panel * kPair<T>;
              probabilities(logits, block.bias + word, lse + i * kTile + panel, words, line, pair, tile.n,
                            dbias ? dbias + word : nullptr);
              each_target(tile, panel, block.start + word, words, [&](int64_t w, int64_t column) {
                int64_t row = tile.index[panel + column];
                float above = logits[w * kPanel + column] + block.bias[word + w] - kept.top[row];
                T d = static_cast<T>(std::expm1(above - kept.log_sum[row]));  // p - 1
                line[w * tile.n + column] = d;
                pair[(w / kPair<T> * tile.n + column) * kPair<T> + w % kPair<T>] = d;
                if (dbias) dbias[word + w] -= 1;
              });
            }
          if (dhead) multiply(block.words, width, tile.n, lines, tile.n, tile.rows, dhead, start + i > 0);
          if (share)
            multiply(width, tile.n, round_up(block.words, kPair<T>), block.columns, block.ld, pairs,
                     share + i * kTile * width, shares[omp_get_thread_num()] != nullptr);
        }
        shares[omp_get_thread_num()] = share;
        for (int64_t i = 0; dhead && last && i < block.words * width; i++) dhead[i] *= factor;
        for (int64_t i = 0; dbias && last && i < block.words; i++) dbias[i] *= factor;
      }
      float* rows = scratch.take<float>(kTile * width);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < (grad.hidden ? tiles.size() : 0); i++) {
        const Tile<T>& tile = tiles[i];
        float* sum = nullptr;
        for (float* of_thread : shares) {
          if (!of_thread) continue;
          float* part = of_thread + i * kTile * width;
          for (int64_t j = 0; sum && j < tile.n * width; j++) sum[j] += part[j];
          sum = sum ? sum : part;
        }
        transpose(reinterpret_cast<const Word*>(sum), tile.n, width, tile.n, reinterpret_cast<Word*>(rows), width);
        for (int64_t row = 0; row < tile.count; row++)
          for (int64_t d = 0; d < width; d++) grad.hidden[tile.index[row] * width + d] = rows[row * width + d] * factor;
      }
      blas::brgemm_release();
    }
  }
}

// The rows that have targets; stops at a target that is no word, whose row is `wrong` (else -1).
std::vector<int64_t> rows_with_targets(const Inputs& in, int64_t& wrong) {
  std::vector<int64_t> rows;
  wrong = -1;
  for (int64_t i = 0; i < in.n_rows && wrong < 0; i++) {
    if (in.targets[i] == kIgnored) continue;
    if (in.targets[i] < 0 || in.targets[i] >= in.vocab) wrong = i;
    rows.push_back(i);
  }
  return rows;
}

}  // namespace

extern "C" {

// -1, or the row of a target that is no word.
int64_t wikigpt_cross_entropy_forward(int bf16, const Inputs* in, float* loss, const Kept* kept, int n_threads) {
  return guarded([&] {
    int64_t wrong;
    std::vector<int64_t> chosen = rows_with_targets(*in, wrong);
    if (wrong < 0) *loss = (bf16 ? forward<BFloat16> : forward<float>)(*in, chosen, *kept, n_threads);
    return wrong;
  });
}

int64_t wikigpt_cross_entropy_backward(int bf16, const Inputs* in, const Kept* kept, float factor,
                                       const Gradients* grad, int n_threads) {
  return guarded([&] {
    int64_t wrong;
    std::vector<int64_t> chosen = rows_with_targets(*in, wrong);
    if (wrong < 0) (bf16 ? backward<BFloat16> : backward<float>)(*in, chosen, *kept, factor, *grad, n_threads);
    return wrong;
  });
}
}

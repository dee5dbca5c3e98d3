/* Parts of a transformer layer in bfloat16, each in one pass over memory; kernels.py builds and calls them.

   A bf16 is the upper half of a float. All arithmetic is in float, and every result is rounded once. Rows are divided
   evenly among `threads`, so the same number of threads gives the same bits. Pointers must not be null unless a
   comment allows it, and must not overlap unless they are equal. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16 /* floats in the widest vector register */
#define PRAGMA(text) _Pragma(#text)
/* The rows divided among the threads, the elements of a row in vectors, and the same with a sum over them. */
#define EACH_ROW PRAGMA(omp parallel for num_threads(threads) schedule(static)) for (int64_t row = 0; row < rows; row++)
#define EACH(count) PRAGMA(omp simd) for (int64_t i = 0; i < count; i++)
#define SUM_EACH(count, sum) PRAGMA(omp simd reduction(+ : sum)) for (int64_t i = 0; i < count; i++)

typedef uint16_t bf16;

static inline float wide(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

static inline bf16 narrow(float x) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return x != x ? 0x7fc0 : (bf16)rounded;
}

/* e^x for x <= 88, relative error below 3e-7; 0 below -87. Written so that compilers vectorise loops of it. */
static inline float exponential(float x) {
    float y = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = (y * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest integer */
    float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;   /* ln 2 in two parts (Cody and Waite) */
    float p = 4.1666668e-2f + r * (8.3333340e-3f + r * 1.3888889e-3f); /* the series of e^r, from r^4 on */
    p = 1.0f + r * (1.0f + r * (0.5f + r * (1.6666667e-1f + r * p)));
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return x != x ? x : x < -87.0f ? 0.0f : p * power;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* stream = x + update, and out = stream / sqrt(mean(stream^2) + eps) * weight, row by row; scale gets the factor of
   each row. update null: nothing is added, and stream may be null or x. */
void rms_norm(const float *x, const bf16 *update, float *stream, const float *weight, float eps, bf16 *out,
              float *scale, int64_t rows, int64_t width, int threads) {
    EACH_ROW {
        const float *from = x + row * width;
        bf16 *to = out + row * width;
        float sum = 0;
        if (update) {
            const bf16 *add = update + row * width;
            float *at = stream + row * width;
            EACH(width) at[i] = from[i] + wide(add[i]);
            from = at;
        }
        SUM_EACH(width, sum) sum += from[i] * from[i];
        float factor = 1.0f / sqrtf(sum / width + eps);
        scale[row] = factor;
        EACH(width) to[i] = narrow(from[i] * factor * weight[i]);
    }
}

/* Gradients of rms_norm from that for out and that for stream (null: none): for x, for update (null: not wanted) and
   for the weight, added to the (threads, width) sums, a row per thread (null: not wanted). */
void rms_norm_backward(const bf16 *grad_out, const float *grad_stream, const float *stream, const float *weight,
                       const float *scale, float *grad_x, bf16 *grad_update, float *grad_weight, int64_t rows,
                       int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        float *sums = grad_weight ? grad_weight + part * width : 0;
        for (int64_t row = rows * part / threads; row < rows * (part + 1) / threads; row++) {
            const bf16 *by = grad_out + row * width;
            const float *from = stream + row * width;
            float *to = grad_x + row * width, factor = scale[row], along = 0;
            SUM_EACH(width, along) along += wide(by[i]) * weight[i] * from[i];
            along *= factor * factor * factor / width;
            if (grad_stream) {
                const float *also = grad_stream + row * width;
                EACH(width) to[i] = also[i] + wide(by[i]) * weight[i] * factor - from[i] * along;
            } else
                EACH(width) to[i] = wide(by[i]) * weight[i] * factor - from[i] * along;
            if (grad_update) {
                bf16 *half = grad_update + row * width;
                EACH(width) half[i] = narrow(to[i]);
            }
            if (sums)
                EACH(width) sums[i] += wide(by[i]) * from[i] * factor;
        }
    }
}

/* out (rows, width) = gate * sigmoid(gate) * up, where a row of gate_up (rows, 2 width) holds gate and then up. */
void swiglu(const bf16 *gate_up, bf16 *out, int64_t rows, int64_t width, int threads) {
    EACH_ROW {
        const bf16 *gate = gate_up + row * 2 * width, *up = gate + width;
        bf16 *to = out + row * width;
        EACH(width) to[i] = narrow(wide(gate[i]) * sigmoid(wide(gate[i])) * wide(up[i]));
    }
}

/* The gradient for gate_up. */
void swiglu_backward(const bf16 *grad, const bf16 *gate_up, bf16 *grad_gate_up, int64_t rows, int64_t width,
                     int threads) {
    EACH_ROW {
        const bf16 *by = grad + row * width, *gate = gate_up + row * 2 * width, *up = gate + width;
        bf16 *grad_gate = grad_gate_up + row * 2 * width, *grad_up = grad_gate + width;
        EACH(width) {
            float g = wide(gate[i]), s = sigmoid(g);
            grad_gate[i] = narrow(wide(by[i]) * wide(up[i]) * s * (1.0f + g * (1.0f - s)));
            grad_up[i] = narrow(wide(by[i]) * g * s);
        }
    }
}

/* out = x cos + swapped(x) sin for x (B, T, H, d), where swapped exchanges the halves of the last dimension. strides
   holds those of x and then of out, three each, in elements; d is contiguous. cos and sin (1 or B, T, d), `turn`
   elements from one row of the batch to the next (0: the same for all); sin is multiplied by `sign`. */
void rotate(const bf16 *x, const bf16 *cosine, const bf16 *sine, bf16 *out, const int64_t *sizes,
            const int64_t *strides, int64_t turn, float sign, int threads) {
    int64_t batch = sizes[0], length = sizes[1], heads = sizes[2], width = sizes[3], half = width / 2;
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
    for (int64_t row = 0; row < batch; row++)
        for (int64_t t = 0; t < length; t++) {
            const bf16 *c = cosine + row * turn + t * width, *s = sine + row * turn + t * width;
            for (int64_t head = 0; head < heads; head++) {
                const bf16 *from = x + row * strides[0] + t * strides[1] + head * strides[2];
                bf16 *to = out + row * strides[3] + t * strides[4] + head * strides[5];
                EACH(half) {
                    float a = wide(from[i]), b = wide(from[half + i]);
                    to[i] = narrow(a * wide(c[i]) + b * wide(s[i]) * sign);
                    to[half + i] = narrow(b * wide(c[half + i]) + a * wide(s[half + i]) * sign);
                }
            }
        }
}

/* In place: softmax(scale * scores), row by row. A matrix has queries x group rows, `group` of them for each query;
   query q attends to the first seen + q columns, at most all, and the others become 0. */
void softmax(bf16 *scores, float scale, int64_t rows, int64_t columns, int64_t queries, int64_t group, int64_t seen,
             int threads) {
    EACH_ROW {
        bf16 *at = scores + row * columns;
        int64_t sees = seen + row / group % queries, end = sees < columns ? sees : columns;
        int64_t padded = (end + LANES - 1) / LANES * LANES;
        float most = -INFINITY, sum = 0, line[padded];
        for (int64_t i = end; i < padded; i++) line[i] = -INFINITY;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < end; i++) {
            line[i] = wide(at[i]) * scale;
            most = line[i] > most ? line[i] : most;
        }
        SUM_EACH(padded, sum) sum += line[i] = exponential(line[i] - most);
        float share = 1.0f / sum;
        EACH(end) at[i] = narrow(line[i] * share);
        memset(at + end, 0, (columns - end) * sizeof(bf16));
    }
}

/* The gradient for the scores, from that for their softmax and the softmax itself. */
void softmax_backward(const bf16 *grad, const bf16 *softmax, float scale, bf16 *grad_scores, int64_t rows,
                      int64_t columns, int threads) {
    EACH_ROW {
        const bf16 *by = grad + row * columns, *share = softmax + row * columns;
        bf16 *to = grad_scores + row * columns;
        float along = 0;
        SUM_EACH(columns, along) along += wide(by[i]) * wide(share[i]);
        EACH(columns) to[i] = narrow((wide(by[i]) - along) * wide(share[i]) * scale);
    }
}

/* x += update + bias, in place, and out = (x - mean) / sqrt(variance + eps) * weight + shift, row by row. update and
   bias null: nothing is added. */
void add_layer_norm(float *x, const bf16 *update, const float *bias, const float *weight, const float *shift,
                    float eps, bf16 *out, int64_t rows, int64_t width, int threads) {
    EACH_ROW {
        float *at = x + row * width, sum = 0, squares = 0;
        bf16 *to = out + row * width;
        if (update) {
            const bf16 *add = update + row * width;
            EACH(width) at[i] += wide(add[i]) + bias[i];
        }
        SUM_EACH(width, sum) sum += at[i];
        float mean = sum / width;
        SUM_EACH(width, squares) squares += (at[i] - mean) * (at[i] - mean);
        float factor = 1.0f / sqrtf(squares / width + eps);
        EACH(width) to[i] = narrow((at[i] - mean) * factor * weight[i] + shift[i]);
    }
}

/* In place: y sigmoid(linear y + cubic y^3) for y = x + bias, which is quick GELU with linear 1.702 and cubic 0, and
   GELU by tanh with linear 2 sqrt(2 / pi) and cubic 0.044715 of that. */
void gelu(bf16 *x, const float *bias, float linear, float cubic, int64_t rows, int64_t width, int threads) {
    EACH_ROW {
        bf16 *at = x + row * width;
        EACH(width) {
            float y = wide(at[i]) + bias[i];
            at[i] = narrow(y * sigmoid(y * (linear + cubic * y * y)));
        }
    }
}

/* out (3, B, H, N, d) from qkv (B, N, 3, H, d) and bias (3, H, d): queries, keys and values, each head's together. */
void split_heads(const bf16 *qkv, const float *bias, bf16 *out, int64_t batch, int64_t length, int64_t heads,
                 int64_t width, int threads) {
    int64_t part = heads * width;
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
    for (int64_t row = 0; row < batch; row++)
        for (int64_t n = 0; n < length; n++)
            for (int64_t head = 0; head < 3 * heads; head++) {
                const bf16 *from = qkv + (row * length + n) * 3 * part + head * width;
                int64_t kind = head / heads, own = head % heads;
                bf16 *to = out + (((kind * batch + row) * heads + own) * length + n) * width;
                EACH(width) to[i] = narrow(wide(from[i]) + bias[head * width + i]);
            }
}

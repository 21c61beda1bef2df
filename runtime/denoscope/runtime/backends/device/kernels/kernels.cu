/* What the kernels that are made from a bundle's graphs begin with, and the convolution; no header is needed, so that
   NVRTC compiles it without a CUDA toolkit. A test compiles the same text as plain C (PLAIN_C), where a kernel is a
   function that goes through all places one after the other, and the convolution is the plain sum. */

#ifndef PLAIN_C
#define KERNEL extern "C" __global__ void
#define EACH(H, W)                                                                                          \
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (H) * (W); i += gridDim.x * blockDim.x)         \
        for (int y = i / (W), x = i % (W), once = 1; once; once = 0)
#define ONCE if (blockIdx.x == 0 && threadIdx.x == 0)
#define INFINITE __int_as_float(0x7f800000)
#define FUNCTION static __device__ __forceinline__

FUNCTION float LOW(unsigned int both) {
    float x;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low; }" : "=f"(x) : "r"(both));
    return x;
}

FUNCTION float HIGH(unsigned int both) {
    float x;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high; }" : "=f"(x) : "r"(both));
    return x;
}

/* Beyond the largest half lies infinity, which a difference of two turns into NaN: the largest half it is instead. */
FUNCTION unsigned int BOTH(float low, float high) {
    unsigned int both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;"
        : "=r"(both)
        : "f"(fminf(fmaxf(high, -65504.0f), 65504.0f)), "f"(fminf(fmaxf(low, -65504.0f), 65504.0f)));
    return both;
}
#endif

#define MOST(a, b) ((a) > (b) ? (a) : (b))
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

#ifndef PLAIN_C
/* One block computes TY x 16 pixels for COUT / SPLIT output channels. Its input, with the border, lies in shared memory,
   each pixel followed by 16 bytes, so that no two lanes meet in a bank; behind it the weights, where there is room. They
   come in the order in which mma.m16n8k16 wants them (`pack_weights`). Channels of input and output are multiples of
   16 and 8. */
template <int CIN, int SIZE, int STRIDE, int DILATION, int TY>
struct Tile {
    static constexpr int REACH = SIZE / 2 * DILATION;
    static constexpr int WIDE = 15 * STRIDE + 1 + 2 * REACH, TALL = (TY - 1) * STRIDE + 1 + 2 * REACH;
    static constexpr int WORDS = (CIN + 8) / 2, VECTORS = TALL * WIDE * WORDS / 4, THREADS = TY / 2 * 32;
};

#define WEIGHT_VECTORS(CIN, COUT, SIZE, SPLIT, KEPT) ((KEPT) ? (SIZE) * (SIZE) * (CIN) * ((COUT) / (SPLIT)) / 8 : 0)

/* Multiplies what lies in the tile and stores the result. */
template <int CIN, int COUT, int SIZE, int STRIDE, int DILATION, int TY, int SPLIT, int KEPT, int RELU, int MORE, int ADDED>
FUNCTION void multiply(uint4 *shared, const uint2 *weights, const float *bias, const float *more,
                       const unsigned int *added, unsigned int *output, int height, int width) {
    typedef Tile<CIN, SIZE, STRIDE, DILATION, TY> T;
    constexpr int ROWS = 2, PARTS = CIN / 16, TILES = COUT / 8 / SPLIT, ALL = COUT / 8, WORDS = T::WORDS;
    const unsigned int *tile = (const unsigned int *)shared;
    const int first = SPLIT > 1 ? blockIdx.z * TILES : 0;
    if (KEPT) {
        uint4 *kept = shared + T::VECTORS;
        const uint4 *from = (const uint4 *)weights;
        for (int i = threadIdx.x; i < SIZE * SIZE * PARTS * TILES * 16; i += T::THREADS)
            kept[i] = from[(i / (TILES * 16) * ALL + first) * 16 + i % (TILES * 16)];
    }
    __syncthreads();

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane >> 2, quad = lane & 3;
    const uint2 *b = (KEPT ? (const uint2 *)(shared + T::VECTORS) : weights + first * 32) + lane;
    float sum[ROWS][TILES][4];
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int n = 0; n < TILES; ++n)
#pragma unroll
            for (int c = 0; c < 4; ++c) sum[r][n][c] = 0.0f;

#pragma unroll
    for (int down = 0; down < SIZE; ++down)
#pragma unroll 1
        for (int along = 0; along < SIZE; ++along) {
#pragma unroll
            for (int part = 0; part < PARTS; ++part) {
                unsigned int a[ROWS][4];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    const int row = (warp * ROWS + r) * STRIDE + down * DILATION;
                    const int column = group * STRIDE + along * DILATION;
                    const unsigned int *from = tile + (row * T::WIDE + column) * WORDS + part * 8 + quad;
                    a[r][0] = from[0];
                    a[r][1] = from[8 * STRIDE * WORDS];
                    a[r][2] = from[4];
                    a[r][3] = from[8 * STRIDE * WORDS + 4];
                }
                const uint2 *step = b + ((down * SIZE + along) * PARTS + part) * (KEPT ? TILES : ALL) * 32;
#pragma unroll
                for (int n = 0; n < TILES; ++n) {
                    const uint2 w = step[n * 32];
#pragma unroll
                    for (int r = 0; r < ROWS; ++r)
                        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                            "{%8,%9}, {%0,%1,%2,%3};"
                            : "+f"(sum[r][n][0]), "+f"(sum[r][n][1]), "+f"(sum[r][n][2]), "+f"(sum[r][n][3])
                            : "r"(a[r][0]), "r"(a[r][1]), "r"(a[r][2]), "r"(a[r][3]), "r"(w.x), "r"(w.y));
                }
            }
        }

#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int y = blockIdx.y * TY + warp * ROWS + r;
        if (y >= height) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int x = blockIdx.x * 16 + group + 8 * half;
            if (x >= width) continue;
#pragma unroll
            for (int n = 0; n < TILES; ++n) {
                const int channel = (first + n) * 8 + 2 * quad, at = ((y * width + x) * COUT + channel) / 2;
                float low = sum[r][n][2 * half] + bias[channel], high = sum[r][n][2 * half + 1] + bias[channel + 1];
                if (MORE) low += more[channel], high += more[channel + 1];
                if (ADDED) low += LOW(added[at]), high += HIGH(added[at]);
                if (RELU) low = fmaxf(low, 0.0f), high = fmaxf(high, 0.0f);
                output[at] = BOTH(low, high);
            }
        }
    }
}

template <int CIN, int SIZE, int STRIDE, int DILATION, int TY>
FUNCTION void fetch(uint4 *shared, const uint4 *input, int height, int width) {
    typedef Tile<CIN, SIZE, STRIDE, DILATION, TY> T;
    const int tall = height * STRIDE, wide = width * STRIDE;
    const int left = blockIdx.x * 16 * STRIDE - T::REACH, top = blockIdx.y * TY * STRIDE - T::REACH;
    for (int i = threadIdx.x; i < T::TALL * T::WIDE * (CIN / 8); i += T::THREADS) {
        const int part = i % (CIN / 8), pixel = i / (CIN / 8);
        const int y = top + pixel / T::WIDE, x = left + pixel % T::WIDE;
        uint4 value = make_uint4(0, 0, 0, 0);
        if (y >= 0 && y < tall && x >= 0 && x < wide) value = input[(y * wide + x) * (CIN / 8) + part];
        shared[pixel * (T::WORDS / 4) + part] = value;
    }
}

#define CONVOLUTION(NAME, CIN, COUT, SIZE, STRIDE, DILATION, TY, SPLIT, KEPT, RELU, MORE, ADDED)                       \
    extern "C" __global__ void __launch_bounds__(TY / 2 * 32)                                                         \
        NAME(const uint4 *input, const uint2 *weights, const float *bias, const float *more,                          \
             const unsigned int *added, unsigned int *output, int height, int width) {                                \
        __shared__ uint4 shared[Tile<CIN, SIZE, STRIDE, DILATION, TY>::VECTORS +                                       \
                                WEIGHT_VECTORS(CIN, COUT, SIZE, SPLIT, KEPT)];                                         \
        fetch<CIN, SIZE, STRIDE, DILATION, TY>(shared, input, height, width);                                         \
        multiply<CIN, COUT, SIZE, STRIDE, DILATION, TY, SPLIT, KEPT, RELU, MORE, ADDED>(shared, weights, bias, more,   \
                                                                                        added, output, height, width); \
    }

/* A convolution of single pixels whose input is computed in place: BODY fills `into` for the pixel (y, x). */
#define GATHERED(NAME, CIN, COUT, TY, KEPT, RELU, MORE, ADDED, SIGNATURE, BODY)                                        \
    extern "C" __global__ void __launch_bounds__(TY / 2 * 32)                                                         \
        NAME(const uint2 *weights, const float *bias, const float *more, const unsigned int *added,                   \
             unsigned int *output, SIGNATURE, int height, int width) {                                                \
        __shared__ uint4 shared[Tile<CIN, 1, 1, 1, TY>::VECTORS + WEIGHT_VECTORS(CIN, COUT, 1, 1, KEPT)];             \
        for (int pixel = threadIdx.x; pixel < TY * 16; pixel += TY / 2 * 32) {                                        \
            const int y = blockIdx.y * TY + pixel / 16, x = blockIdx.x * 16 + pixel % 16;                             \
            uint4 *into = shared + pixel * ((CIN + 8) / 8);                                                           \
            if (y < height && x < width) {                                                                            \
                BODY                                                                                                  \
            }                                                                                                         \
        }                                                                                                             \
        multiply<CIN, COUT, 1, 1, 1, TY, 1, KEPT, RELU, MORE, ADDED>(shared, weights, bias, more, added, output,      \
                                                                     height, width);                                  \
    }
#endif

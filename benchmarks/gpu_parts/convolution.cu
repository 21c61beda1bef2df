/* A trial: convolution + bias + ReLU over channels-last half precision, on tensor cores, sizes fixed at compile time.

   One block computes TY x 16 pixels for all output channels. The input tile with its border lies in shared memory,
   each pixel padded by 16 bytes so that no two lanes meet in a bank. The weights come in the order in which
   mma.m16n8k16 wants them (see pack_weights in convolution.py). No header is needed: NVRTC compiles it alone. */

#define TX 16
#define PAD (KS / 2)
#define WIDE (TX + 2 * PAD)
#define HIGH (TY + 2 * PAD)
#define WORDS ((CIN + 8) / 2) /* of one pixel in shared memory */
#define PARTS (CIN / 16)
#define TILES (COUT / 8)
#define ROWS 2 /* of pixels that one warp computes */

static __device__ __forceinline__ unsigned int two_halves(float low, float high) {
    unsigned int both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

static __device__ __forceinline__ float positive(float x) { return x > 0.0f ? x : 0.0f; }

extern "C" __global__ void __launch_bounds__(TY / ROWS * 32)
    convolution(const uint4 *input, const uint2 *weights, const float *bias, unsigned int *output, int height,
                int width) {
    __shared__ uint4 shared[HIGH * WIDE * WORDS / 4];
    const unsigned int *tile = (const unsigned int *)shared;
    const int left = blockIdx.x * TX, top = blockIdx.y * TY;
    for (int i = threadIdx.x; i < HIGH * WIDE * (CIN / 8); i += TY / ROWS * 32) {
        const int part = i % (CIN / 8), pixel = i / (CIN / 8);
        const int y = top + pixel / WIDE - PAD, x = left + pixel % WIDE - PAD;
        uint4 value = make_uint4(0, 0, 0, 0);
        if (y >= 0 && y < height && x >= 0 && x < width) value = input[(y * width + x) * (CIN / 8) + part];
        shared[pixel * (WORDS / 4) + part] = value;
    }
    __syncthreads();

    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane >> 2, quad = lane & 3;
    float sum[ROWS][TILES][4];
    for (int r = 0; r < ROWS; ++r)
        for (int n = 0; n < TILES; ++n)
            for (int c = 0; c < 4; ++c) sum[r][n][c] = 0.0f;

#pragma unroll 1
    for (int tap = 0; tap < KS * KS; ++tap) {
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            unsigned int a[ROWS][4];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const int row = warp * ROWS + r + tap / KS, column = group + tap % KS;
                const unsigned int *from = tile + (row * WIDE + column) * WORDS + part * 8 + quad;
                a[r][0] = from[0];
                a[r][1] = from[8 * WORDS];
                a[r][2] = from[4];
                a[r][3] = from[8 * WORDS + 4];
            }
            const uint2 *b = weights + (tap * PARTS + part) * TILES * 32 + lane;
#pragma unroll
            for (int n = 0; n < TILES; ++n) {
                const uint2 w = b[n * 32];
#pragma unroll
                for (int r = 0; r < ROWS; ++r)
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                                 "{%8,%9}, {%0,%1,%2,%3};"
                                 : "+f"(sum[r][n][0]), "+f"(sum[r][n][1]), "+f"(sum[r][n][2]), "+f"(sum[r][n][3])
                                 : "r"(a[r][0]), "r"(a[r][1]), "r"(a[r][2]), "r"(a[r][3]), "r"(w.x), "r"(w.y));
            }
        }
    }

#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int y = top + warp * ROWS + r, x = left + group;
        if (y >= height) continue;
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
            const float low = bias[n * 8 + 2 * quad], high = bias[n * 8 + 2 * quad + 1];
            unsigned int *to = output + ((y * width + x) * COUT + n * 8 + 2 * quad) / 2;
            if (x < width) to[0] = two_halves(positive(sum[r][n][0] + low), positive(sum[r][n][1] + high));
            if (x + 8 < width)
                to[8 * COUT / 2] = two_halves(positive(sum[r][n][2] + low), positive(sum[r][n][3] + high));
        }
    }
}

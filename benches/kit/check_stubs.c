/* Calls stubs as a program does, and says what comes of it. As -DREAL it is the library that they find: built as
   lib/libcublas.so.13 and lib/libcuda.so.1 beside the folder of the program. */
#include <stdio.h>
#include <string.h>

int cublasGemmEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda,
                 const void *b, int bt, int ldb, const void *beta, void *c, int ct, int ldc, int compute, int algo);
const char *cublasGetStatusString(int code);
int cuInit(unsigned flags);
int cuGetErrorString(int code, const char **to);
/* Declared with other arguments than cudarc's: numbers in vector registers and a structure by value, as
   ncclCommInitRank has one. */
struct id { char bytes[128]; };
int ncclCommInitRank(void **comm, int ranks, struct id id, int rank);
double cublasXerbla(double a, double b, double c, double d, double e, double f, double g, double h);
int curandCreateGenerator(void **generator, int kind);

#ifdef REAL
int cublasGemmEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda,
                 const void *b, int bt, int ldb, const void *beta, void *c, int ct, int ldc, int compute, int algo) {
    long all[] = {(long)h, ta, tb, m, n, k, (long)alpha, (long)a, at, lda, (long)b, bt, ldb, (long)beta, (long)c, ct,
                  ldc, compute, algo};
    for (int i = 0; i < 19; i++)
        if (all[i] != 100 + i) return i + 1;
    return 0;
}
double cublasXerbla(double a, double b, double c, double d, double e, double f, double g, double h) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}
int cuInit(unsigned flags) { return flags == 7 ? 0 : 1; }
int ncclCommInitRank(void **comm, int ranks, struct id id, int rank) {
    *comm = comm;
    return !(ranks == 5 && rank == 3 && strlen(id.bytes) == 127);
}
#else
#define P(n) ((void *)(long)(n))
int main(void) {
    const char *said = "";
    void *comm = 0;
    struct id id;
    memset(id.bytes, 'x', 127);
    id.bytes[127] = 0;
    for (int again = 0; again < 2; again++) {
        int gemm = cublasGemmEx(P(100), 101, 102, 103, 104, 105, P(106), P(107), 108, 109, P(110), 111, 112, P(113),
                                P(114), 115, 116, 117, 118);
        printf("gemm %d, ", gemm);
        printf("cuInit %d, ", cuInit(7));
        cuGetErrorString(0, &said);
        printf("%.12s, nccl %d, ", said, ncclCommInitRank(&comm, 5, id, 3));
        printf("curand %d, %s\n", curandCreateGenerator(&comm, 1), cublasGetStatusString(1));
    }
    if (cublasXerbla(1, 1, 1, 1, 1, 1, 1, 1) == 36) printf("vector registers\n");
    return 0;
}
#endif

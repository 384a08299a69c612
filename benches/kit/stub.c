/* A library that may be missing: each of its functions is a jump to the real one, which is looked up at its first call.
   Where the library or the function is not there, the call gives an error code, and the program goes on.

   stubs.py writes what stub.h has for one library: FILES, the names that its file may have; FUNCTIONS, a list of
   F(number, name, kind); NO_LIBRARY and NO_FUNCTION, the error codes; SAYS, whether a missing library is said.
   x86-64 and the System V calling convention only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stub.h"

/* What a function gives that is not there. */
enum kind {
    STATUS, /* an error code */
    TEXT,   /* a text: what is missing */
    PUTS,   /* (code, where to): puts the text there, and gives no error */
    ZERO,   /* 0 */
};

#define COUNT(number, name, kind) +1
#define NAME(number, name, kind) #name,
#define KIND(number, name, kind) kind,
static const char *const NAMES[] = {FUNCTIONS(NAME)};
static const unsigned char KINDS[] = {FUNCTIONS(KIND)};
/* Where they are; 0 before the first call. */
__attribute__((used)) static void *stub_found[0 FUNCTIONS(COUNT)];

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static void *library;
static char text[1024];

/* Looks for `lib/FILE` beside the folder of the program first, then where the system looks: LD_LIBRARY_PATH,
   ld.so.conf. */
static void open_library(void) {
    char own[4096 + 256];
    ssize_t length = readlink("/proc/self/exe", own, 4096);
    if (length < 0) length = 0;
    own[length] = 0;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(own, '/');
        if (slash) *slash = 0;
    }
    size_t folder = strlen(own);
    char why[512] = "";
    for (int i = 0; FILES[i] && !library; i++) {
        snprintf(own + folder, sizeof own - folder, "/lib/%s", FILES[i]);
        library = dlopen(access(own, F_OK) ? FILES[i] : own, RTLD_NOW | RTLD_GLOBAL);
        if (!library && !why[0]) snprintf(why, sizeof why, "%s", dlerror());
    }
    if (library) return;
    snprintf(text, sizeof text, "%s is not on this machine (%s)", FILES[0], why);
    if (SAYS) fprintf(stderr, "%s\n", text);
}

static int no_library(void) { return NO_LIBRARY; }
static int no_function(void) { return NO_FUNCTION; }
static const char *a_text(void) { return text; }
static int put_text(int code, const char **to) {
    (void)code;
    *to = text;
    return 0;
}
static size_t zero(void) { return 0; }

__attribute__((used)) static void *stub_look_up(unsigned number) {
    pthread_once(&opened, open_library);
    void *function = library ? dlsym(library, NAMES[number]) : 0;
    if (!function) {
        if (library) {
            snprintf(text, sizeof text, "%s of this machine has no %s", FILES[0], NAMES[number]);
            fprintf(stderr, "%s\n", text);
        }
        switch ((enum kind)KINDS[number]) {
        case STATUS: function = library ? (void *)no_function : (void *)no_library; break;
        case TEXT: function = a_text; break;
        case PUTS: function = put_text; break;
        case ZERO: function = zero; break;
        }
    }
    __atomic_store_n(&stub_found[number], function, __ATOMIC_RELEASE);
    return function;
}

/* Keeps all that may hold arguments, looks the function up, and jumps to it as if it had been called. */
__asm__(".text\n"
        ".p2align 4\n"
        "stub_first_call:\n"
        "    pushq %rbp\n"
        "    movq %rsp, %rbp\n"
        "    pushq %rdi\n    pushq %rsi\n    pushq %rdx\n    pushq %rcx\n"
        "    pushq %r8\n    pushq %r9\n    pushq %rax\n    pushq %r10\n"
        "    subq $128, %rsp\n"
        "    movups %xmm0, 0(%rsp)\n    movups %xmm1, 16(%rsp)\n"
        "    movups %xmm2, 32(%rsp)\n    movups %xmm3, 48(%rsp)\n"
        "    movups %xmm4, 64(%rsp)\n    movups %xmm5, 80(%rsp)\n"
        "    movups %xmm6, 96(%rsp)\n    movups %xmm7, 112(%rsp)\n"
        "    movl %r11d, %edi\n"
        "    call stub_look_up\n"
        "    movq %rax, %r11\n"
        "    movups 0(%rsp), %xmm0\n    movups 16(%rsp), %xmm1\n"
        "    movups 32(%rsp), %xmm2\n    movups 48(%rsp), %xmm3\n"
        "    movups 64(%rsp), %xmm4\n    movups 80(%rsp), %xmm5\n"
        "    movups 96(%rsp), %xmm6\n    movups 112(%rsp), %xmm7\n"
        "    addq $128, %rsp\n"
        "    popq %r10\n    popq %rax\n    popq %r9\n    popq %r8\n"
        "    popq %rcx\n    popq %rdx\n    popq %rsi\n    popq %rdi\n"
        "    popq %rbp\n"
        "    jmp *%r11\n");

#define JUMP(number, name, kind)                                                                                       \
    __asm__(".text\n.globl " #name "\n.type " #name ", @function\n.p2align 4\n" #name ":\n"                            \
            "    movq stub_found+8*" #number "(%rip), %r11\n"                                                          \
            "    testq %r11, %r11\n"                                                                                   \
            "    jz 1f\n"                                                                                              \
            "    jmp *%r11\n"                                                                                          \
            "1:  movl $" #number ", %r11d\n"                                                                           \
            "    jmp stub_first_call\n"                                                                                \
            ".size " #name ", . - " #name "\n");
FUNCTIONS(JUMP)

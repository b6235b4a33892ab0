/* Runs instruction sequences in their original place and as relocated copies, each from the same
 * registers, flags, vector state and memory, and compares what they leave behind.
 *
 * Text around a sequence is filled with int3, so that control ends in a signal wherever it goes;
 * the signal frame is the state. A run starts by an int3 here: the handler replaces the frame's
 * registers by those of the case and returns into the sequence.
 *
 * stdin: a struct header, then struct test until the end. stdout: a letter for each case, L (left at
 * the end of the sequence), B (left elsewhere), F (fault), D (difference). stderr: differences.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define AREAS 32
#define PAGES 3
#define FP 2688 /* legacy, header, AVX, AVX-512 */

struct header {
	uint32_t code_areas, data_areas;
	struct { uint64_t start, size; } area[AREAS];
} __attribute__((packed));

struct test {
	uint64_t at, dest, regs[16], flags, seed, segment, pages[PAGES], land, land_size;
	uint8_t len, copy_len, points, step;
	uint16_t call_jump; /* 0xffff: none */
	uint8_t bytes[24], copy[96], from[20];
	uint16_t to[20];
} __attribute__((packed));

struct outcome {
	int signal, landed;
	uint64_t pc, address, trap, error, regs[16], flags;
	uint8_t fp[FP], memory[PAGES][PAGE];
};

static const int ORDER[16] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP,
	REG_RSP, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static const char *const NAME[16] = {"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8",
	"r9", "r10", "r11", "r12", "r13", "r14", "r15"};
#define RSP 7
#define TF 0x100
#define FLAGS 0x40cd5 /* CF PF AF ZF SF DF OF AC */

static struct header head;
static uint8_t *writable[AREAS]; /* second mapping of each code area */
static struct test test;
static struct outcome original, copy, *result;
static uint64_t start, own_fs, own_gs;
static int fsgsbase, xfeatures;
static enum { IDLE, START, RUN } mode;
static greg_t saved_regs[NGREG];
static uint8_t saved_fp[FP], case_fp[FP];
static size_t fp_size;

static long prctl_base(long what, uint64_t base)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "0"((long)SYS_arch_prctl), "D"(what), "S"(base)
			 : "rcx", "r11", "memory");
	return r;
}

static void set_bases(uint64_t fs, uint64_t gs)
{
	if (fsgsbase) {
		__asm__ volatile("wrfsbase %0" : : "r"(fs));
		__asm__ volatile("wrgsbase %0" : : "r"(gs));
	} else {
		prctl_base(0x1002, fs);
		prctl_base(0x1001, gs);
	}
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;
	uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
	int breakpoint = signal == SIGTRAP && info->si_code == SI_KERNEL;

	if (mode == START && breakpoint) {
		memcpy(saved_regs, regs, sizeof saved_regs);
		memcpy(saved_fp, fp, fp_size);
		/* What describes the frame itself (464..512) stays. */
		memcpy(fp, case_fp, 416);
		if (fp_size > 576) {
			uint64_t present = xfeatures & 7;
			memcpy(fp + 512, &present, 8);
			memcpy(fp + 576, case_fp + 576, 256);
		}
		for (int i = 0; i < 16; i++)
			regs[ORDER[i]] = test.regs[i];
		regs[REG_EFL] = test.flags | (result == &original && test.step ? TF : 0);
		regs[REG_RIP] = start;
		mode = RUN;
		set_bases(test.segment, test.segment + 0x100);
		return;
	}
	set_bases(own_fs, own_gs);
	if (mode != RUN) {
		fprintf(stderr, "harness: signal %d at %llx\n", signal, (long long)regs[REG_RIP]);
		_exit(3);
	}
	uint64_t pc = regs[REG_RIP];
	int stepped = signal == SIGTRAP && info->si_code == TRAP_TRACE;
	if (stepped && pc != test.at) {
		/* Outside of the sequence what is there decides, as for the copy: int3, or no code. */
		if (pc - test.at >= test.len)
			regs[REG_EFL] &= ~TF;
		set_bases(test.segment, test.segment + 0x100);
		return;
	}
	result->landed = breakpoint || stepped;
	result->signal = signal;
	result->pc = breakpoint ? pc - 1 : pc;
	result->trap = result->landed ? 0 : regs[REG_TRAPNO];
	result->error = result->landed ? 0 : regs[REG_ERR];
	result->address = regs[REG_TRAPNO] == 14 && !result->landed ? (uint64_t)regs[REG_CR2] : 0;
	for (int i = 0; i < 16; i++)
		result->regs[i] = regs[ORDER[i]];
	result->flags = regs[REG_EFL] & FLAGS;
	memcpy(result->fp, fp, fp_size);
	for (int i = 0; i < PAGES; i++)
		memcpy(result->memory[i], (void *)test.pages[i], PAGE);
	memcpy(regs, saved_regs, sizeof saved_regs);
	memcpy(fp, saved_fp, 416);
	if (fp_size > 512)
		memcpy(fp + 512, saved_fp + 512, fp_size - 512);
	mode = IDLE;
}

static uint64_t draw(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	return z ^ z >> 27;
}

/* The writable twin of an executable address. */
static uint8_t *twin(uint64_t address)
{
	for (uint32_t i = 0; i < head.code_areas; i++)
		if (address - head.area[i].start < head.area[i].size)
			return writable[i] + (address - head.area[i].start);
	fprintf(stderr, "harness: %llx is in no code area\n", (long long)address);
	exit(3);
}

static void fill(void)
{
	uint64_t state = test.seed;
	for (int p = 0; p < PAGES; p++) {
		uint64_t *word = (uint64_t *)test.pages[p];
		for (int i = 0; i < PAGE / 8; i++) {
			uint64_t r = draw(&state);
			word[i] = (r & 3) == 0 ? test.land + (r >> 8) % test.land_size : r;
		}
	}
	memset(case_fp, 0, sizeof case_fp);
	case_fp[0] = 0x7f, case_fp[1] = 0x03; /* control word */
	case_fp[4] = draw(&state) & 1 ? 0xff : 0; /* registers in use */
	case_fp[24] = 0x80, case_fp[25] = 0x1f; /* MXCSR */
	for (int i = 0; i < 8; i++) {
		uint64_t mantissa = draw(&state) | 1ull << 63;
		uint16_t exponent = 0x3ff0 + draw(&state) % 32;
		memcpy(case_fp + 32 + 16 * i, &mantissa, 8);
		memcpy(case_fp + 40 + 16 * i, &exponent, 2);
	}
	for (int i = 0; i < 16 * 2; i++) {
		uint64_t low = draw(&state), high = draw(&state);
		memcpy(case_fp + 160 + 8 * i, &low, 8);
		memcpy(case_fp + 576 + 8 * i, &high, 8);
	}
}

/* Whether all data is put back before a run, not the case's own pages alone. */
static int thorough;

static void run(uint64_t from, struct outcome *out)
{
	for (uint32_t i = 0; thorough && i < head.data_areas; i++)
		memset((void *)head.area[head.code_areas + i].start, 0,
		       head.area[head.code_areas + i].size);
	fill();
	start = from;
	result = out;
	mode = START;
	__asm__ volatile("int3" : : : "memory");
}

static int complain(int index, const char *what, uint64_t was, uint64_t is)
{
	static int count;
	if (thorough && count++ < 10) {
		fprintf(stderr, "case %d: %s: original %llx, copy %llx;", index, what,
			(long long)was, (long long)is);
		fprintf(stderr, " pc %llx (signal %d), %llx (signal %d); at %llx:",
			(long long)original.pc, original.signal, (long long)copy.pc, copy.signal,
			(long long)test.at);
		for (int i = 0; i < test.len; i++)
			fprintf(stderr, " %02x", test.bytes[i]);
		fprintf(stderr, "; copy at %llx:", (long long)test.dest);
		for (int i = 0; i < test.copy_len; i++)
			fprintf(stderr, " %02x", test.copy[i]);
		fprintf(stderr, "; flags %llx", (long long)test.flags);
		for (int i = 0; i < 16; i++)
			fprintf(stderr, " %s %llx", NAME[i], (long long)test.regs[i]);
		fprintf(stderr, "\n");
	}
	return 'D';
}

static int compare(int index)
{
	uint64_t expected = original.pc, offset = original.pc - test.at;
	int pushed = 0;
	if (original.pc - test.dest < test.copy_len)
		return 'B'; /* by chance it led to where the copy is: nothing to compare */
	if (!original.landed && offset < test.len) {
		expected = 0;
		for (int i = 0; i < test.points; i++)
			if (test.from[i] == offset)
				expected = test.dest + test.to[i];
		int calls = test.call_jump != 0xffff && offset == test.from[test.points - 1];
		if (calls && copy.pc == test.dest + test.call_jump) {
			/* The return address is pushed, the fault is the same. */
			expected = copy.pc;
			pushed = 1;
			copy.regs[RSP] += 8;
			for (int p = 0; p < PAGES; p++) {
				uint64_t slot = copy.regs[RSP] - 8 - test.pages[p];
				for (uint64_t i = 0; i < 8; i++)
					if (slot + i < PAGE)
						copy.memory[p][slot + i] = original.memory[p][slot + i];
			}
		}
		/* Of two faults of a call, the operand's comes first; of the copy, the push's. */
		if (calls && !pushed && copy.signal == original.signal && copy.pc == expected) {
			copy.address = original.address;
			copy.error = original.error;
			copy.trap = original.trap;
		}
	}
	if (copy.pc != expected || copy.landed != original.landed)
		return complain(index, "pc", original.pc, copy.pc);
	if (!original.landed && copy.signal != original.signal)
		return complain(index, "signal", original.signal, copy.signal);
	if (copy.trap != original.trap || copy.error != original.error)
		return complain(index, "trap", original.trap, copy.trap);
	if (copy.address != original.address)
		return complain(index, "fault address", original.address, copy.address);
	for (int i = 0; i < 16; i++)
		if (copy.regs[i] != original.regs[i])
			return complain(index, NAME[i], original.regs[i], copy.regs[i]);
	if (copy.flags != original.flags)
		return complain(index, "flags", original.flags, copy.flags);
	for (int p = 0; p < PAGES; p++)
		for (int i = 0; i < PAGE; i++)
			if (copy.memory[p][i] != original.memory[p][i])
				return complain(index, "memory", test.pages[p] + i, copy.memory[p][i]);
	for (size_t i = 0; i < fp_size; i++) {
		/* 6..24: the address of the last x87 instruction differs. 464..576: frame. */
		if ((i >= 6 && i < 24) || (i >= 416 && i < 576) || (i >= 832 && i < 1088))
			continue;
		if (copy.fp[i] != original.fp[i])
			return complain(index, "vector state", i << 8 | original.fp[i], copy.fp[i]);
	}
	if (!original.landed)
		return 'F';
	return original.pc == test.at + test.len ? 'L' : 'B';
}

/* Runs the original, then the copy. */
static int both(int index)
{
	uint8_t *text = twin(test.at), *moved = twin(test.dest);
	memcpy(text, test.bytes, test.len);
	run(test.at, &original);
	*text = 0xcc; /* a new arrival at the site is where the comparison ends */
	memcpy(moved, test.copy, test.copy_len);
	run(test.dest, &copy);
	int letter = compare(index);
	memset(text, 0xcc, test.len);
	memset(moved, 0xcc, test.copy_len);
	return letter;
}

static int take(void *to, size_t size)
{
	size_t got = fread(to, 1, size, stdin);
	if (got != size && got != 0) {
		fprintf(stderr, "harness: short input\n");
		exit(3);
	}
	return got == size;
}

static void map_areas(void)
{
	for (uint32_t i = 0; i < head.code_areas + head.data_areas; i++) {
		void *at = (void *)head.area[i].start;
		size_t size = head.area[i].size;
		int flags = MAP_FIXED_NOREPLACE | MAP_SHARED, fd = memfd_create("area", MFD_CLOEXEC);
		int code = i < head.code_areas;
		if (fd < 0 || ftruncate(fd, size) != 0
		    || mmap(at, size, PROT_READ | (code ? PROT_EXEC : PROT_WRITE), flags, fd, 0) != at) {
			perror("harness: area");
			exit(3);
		}
		if (code) {
			writable[i] = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			if (writable[i] == MAP_FAILED) {
				perror("harness: twin");
				exit(3);
			}
			memset(writable[i], 0xcc, size);
		}
		close(fd);
	}
}

/* A sequence did not end. */
static void on_alarm(int signal, siginfo_t *info, void *context)
{
	(void)info;
	set_bases(own_fs, own_gs);
	thorough = 1;
	result->signal = signal;
	result->pc = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	complain(-1, "never ends", original.pc, copy.pc);
	_exit(3);
}

/* The frame says how large its vector state is. */
static void on_probe(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	uint8_t *fp = (uint8_t *)((ucontext_t *)context)->uc_mcontext.fpregs;
	uint32_t magic, size = 512;
	memcpy(&magic, fp + 464, 4);
	if (magic == 0x46505853) { /* FP_XSTATE_MAGIC1 */
		memcpy(&xfeatures, fp + 472, 4);
		memcpy(&size, fp + 480, 4);
	}
	if (size >= FP && (xfeatures & 0xe4) == 0xe4)
		fp_size = FP;
	else
		fp_size = size >= 832 && (xfeatures & 4) ? 832 : 512;
}

int main(void)
{
	static uint8_t stack[256 * 1024] __attribute__((aligned(64)));
	static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

	fsgsbase = getauxval(AT_HWCAP2) >> 1 & 1;
	if (fsgsbase) {
		__asm__ volatile("rdfsbase %0" : "=r"(own_fs));
		__asm__ volatile("rdgsbase %0" : "=r"(own_gs));
	} else {
		prctl_base(0x1003, (uint64_t)&own_fs);
		prctl_base(0x1004, (uint64_t)&own_gs);
	}
	sigaltstack(&alternate, 0);
	action.sa_sigaction = on_probe;
	sigaction(SIGUSR1, &action, 0);
	raise(SIGUSR1);
	action.sa_sigaction = on_alarm;
	sigaction(SIGALRM, &action, 0);
	action.sa_sigaction = on_signal;
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaction(signals[i], &action, 0);

	if (!take(&head, sizeof head) || head.code_areas + head.data_areas > AREAS)
		return 3;
	map_areas();
	for (int index = 0; take(&test, sizeof test); index++) {
		if (index % 4096 == 0)
			alarm(60);
		/* A random address may lie in a page of other cases, which keeps what is written
		 * there: a difference counts when it comes back with all data put back. */
		thorough = 0;
		int letter = both(index);
		if (letter == 'D') {
			thorough = 1;
			letter = both(index);
		}
		putchar(letter);
	}
	return 0;
}

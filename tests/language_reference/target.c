/* Calls functions with values that are always the same, for the programs beside it. Those of one
 * family come one after another: numbers, pairs, texts, and so on; last() is called at the end. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROBED __attribute__((noinline, noclone))
#define KEPT(x) __asm__ volatile("" : : "g"(x) : "memory")

struct point {
	int x;
	int y;
};

struct item {
	signed char tiny;
	unsigned char byte;
	short small;
	int medium;
	long large;
	unsigned flags : 3;
	unsigned kind : 5;
	char name[8];
	int values[3];
	struct point at;
	const char *text;
	struct item *next;
};

/* 1, 2, ... 10 */
PROBED long number(long n)
{
	KEPT(n);
	return n * 100;
}

/* 0, 1, 2, 3, 7, 8, 1023, 1024, 1500, 2^20, 2^33, -1, -7 */
PROBED int spread(long n)
{
	KEPT(n);
	return n < 0 ? -1 : 0;
}

/* Keys 1 to 4, key k with k*k values that are k, 2k, ... */
PROBED void pair(long key, long value)
{
	KEPT(key);
	KEPT(value);
}

/* A key of two parts and a value. */
PROBED void triple(long a, const char *b, long c)
{
	KEPT(a);
	KEPT(b);
	KEPT(c);
}

/* Strings: plain, empty, none, long, with what must be escaped. */
PROBED long text(const char *s)
{
	KEPT(s);
	return s ? (long)strlen(s) : -1;
}

/* Bytes, how many of them. */
PROBED void bytes(const unsigned char *p, unsigned long n)
{
	KEPT(p);
	KEPT(n);
}

/* Arguments of all sizes, at their limits. */
PROBED void sizes(signed char a, short b, int c, long d, unsigned char e, unsigned short f)
{
	KEPT(a);
	KEPT(b);
	KEPT(c);
	KEPT(d);
	KEPT(e);
	KEPT(f);
}

/* A list of three items. */
PROBED void list(struct item *first)
{
	KEPT(first);
}

/* Null-terminated. */
PROBED void words(char **argv)
{
	KEPT(argv);
}

PROBED int inner(int depth)
{
	KEPT(depth);
	return depth + 1;
}

PROBED int middle(int depth)
{
	int got = inner(depth);
	KEPT(got);
	return got + 1;
}

PROBED int outer(int depth)
{
	int got = middle(depth);
	KEPT(got);
	return got + 1;
}

/* More arguments than registers. */
PROBED void many(long a, long b, long c, long d, long e, long f, long g, long h)
{
	KEPT(a + b + c + d + e + f);
	KEPT(g);
	KEPT(h);
}

/* Once, before the end. */
PROBED void last(void)
{
	KEPT(0);
}

int main(void)
{
	for (long i = 1; i <= 10; i++)
		number(i);

	static const long spreads[] = {
		0, 1, 2, 3, 7, 8, 1023, 1024, 1500, 1L << 20, 1L << 33, -1, -7,
	};
	for (size_t i = 0; i < sizeof spreads / sizeof *spreads; i++)
		spread(spreads[i]);

	for (long k = 1; k <= 4; k++)
		for (long i = 1; i <= k * k; i++)
			pair(k, i * k);

	triple(2, "two", 20);
	triple(1, "one", 10);
	triple(2, "also two", 21);
	triple(10, "ten", 100);
	triple(-3, "minus three", -30);
	triple(1, "one", 11);

	text("plain");
	text("");
	text(NULL);
	text("a string that is longer than the sixty-three bytes to which an older bpftrace cuts strings");
	text("plain");
	text("with \"quotes\"");
	text("two words");

	bytes((const unsigned char *)"abc", 3);
	bytes((const unsigned char *)"\x01\x7f\xff\"\\ ~", 7);

	sizes(-128, -32768, -2147483647 - 1, -9223372036854775807L - 1, 255, 65535);
	sizes(127, 32767, 2147483647, 9223372036854775807L, 0, 0);

	struct item items[] = {
		{ -1, 200, -300, -70000, 1L << 40, 5, 17, "first", { 1, 2, 3 }, { 4, -5 }, "one", NULL },
		{ 2, 2, 2, 2, 2, 2, 2, "second", { 20, 21, 22 }, { 23, 24 }, "two", NULL },
		{ 3, 3, 3, 3, 3, 3, 3, "third", { 30, 31, 32 }, { 33, 34 }, "three", NULL },
	};
	items[0].next = &items[1];
	items[1].next = &items[2];
	list(items);

	char *argv[] = { "ls", "-l", "/tmp", NULL };
	words(argv);

	for (int depth = 1; depth <= 3; depth++)
		outer(depth * 10);

	many(1, 2, 3, 4, 5, 6, 7, 8);
	last();
	/* Who reads symbols only when an event arrives must find the process still there. */
	const char *linger = getenv("LINGER");
	if (linger)
		sleep((unsigned)atoi(linger));
	return 0;
}

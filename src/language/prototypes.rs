//! Prototypes of libc functions that are probed most, so that `args.NAME` works where there is no
//! debug information. Knows x86-64's widths of C types; debug information is asked first.

use super::debug::Parameter;
use super::typed::Type;
use crate::program::Width;

/// One a line, as the manual pages have them.
const PROTOTYPES: &str = "\
malloc(size_t size)
calloc(size_t nmemb, size_t size)
realloc(void *ptr, size_t size)
reallocarray(void *ptr, size_t nmemb, size_t size)
free(void *ptr)
memalign(size_t alignment, size_t size)
aligned_alloc(size_t alignment, size_t size)
posix_memalign(void **memptr, size_t alignment, size_t size)
mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
munmap(void *addr, size_t length)
mprotect(void *addr, size_t len, int prot)
open(const char *pathname, int flags, unsigned mode)
open64(const char *pathname, int flags, unsigned mode)
openat(int dirfd, const char *pathname, int flags, unsigned mode)
openat64(int dirfd, const char *pathname, int flags, unsigned mode)
creat(const char *pathname, unsigned mode)
close(int fd)
read(int fd, void *buf, size_t count)
write(int fd, const void *buf, size_t count)
pread(int fd, void *buf, size_t count, long offset)
pread64(int fd, void *buf, size_t count, long offset)
pwrite(int fd, const void *buf, size_t count, long offset)
pwrite64(int fd, const void *buf, size_t count, long offset)
readv(int fd, const struct iovec *iov, int iovcnt)
writev(int fd, const struct iovec *iov, int iovcnt)
lseek(int fd, long offset, int whence)
fsync(int fd)
fdatasync(int fd)
ftruncate(int fd, long length)
dup2(int oldfd, int newfd)
ioctl(int fd, unsigned long request, void *argp)
fcntl(int fd, int op, long arg)
stat(const char *pathname, struct stat *statbuf)
lstat(const char *pathname, struct stat *statbuf)
fstat(int fd, struct stat *statbuf)
access(const char *pathname, int mode)
unlink(const char *pathname)
rename(const char *oldpath, const char *newpath)
mkdir(const char *pathname, unsigned mode)
rmdir(const char *pathname)
chdir(const char *path)
readlink(const char *pathname, char *buf, size_t bufsiz)
realpath(const char *path, char *resolved_path)
opendir(const char *name)
fopen(const char *pathname, const char *mode)
fopen64(const char *pathname, const char *mode)
fclose(void *stream)
fread(void *ptr, size_t size, size_t nmemb, void *stream)
fwrite(const void *ptr, size_t size, size_t nmemb, void *stream)
fgets(char *s, int size, void *stream)
fputs(const char *s, void *stream)
fflush(void *stream)
puts(const char *s)
printf(const char *format)
fprintf(void *stream, const char *format)
snprintf(char *str, size_t size, const char *format)
memcpy(void *dest, const void *src, size_t n)
memmove(void *dest, const void *src, size_t n)
memset(void *s, int c, size_t n)
memcmp(const void *s1, const void *s2, size_t n)
memchr(const void *s, int c, size_t n)
strlen(const char *s)
strnlen(const char *s, size_t maxlen)
strcmp(const char *s1, const char *s2)
strncmp(const char *s1, const char *s2, size_t n)
strcasecmp(const char *s1, const char *s2)
strcpy(char *dest, const char *src)
strncpy(char *dest, const char *src, size_t n)
strcat(char *dest, const char *src)
strchr(const char *s, int c)
strrchr(const char *s, int c)
strstr(const char *haystack, const char *needle)
strdup(const char *s)
atoi(const char *nptr)
strtol(const char *nptr, char **endptr, int base)
strtoul(const char *nptr, char **endptr, int base)
getenv(const char *name)
setenv(const char *name, const char *value, int overwrite)
unsetenv(const char *name)
execve(const char *pathname, char **argv, char **envp)
execv(const char *pathname, char **argv)
execvp(const char *file, char **argv)
posix_spawn(int *pid, const char *path, void *file_actions, void *attrp, char **argv, char **envp)
system(const char *command)
popen(const char *command, const char *type)
kill(int pid, int sig)
raise(int sig)
exit(int status)
_exit(int status)
waitpid(int pid, int *wstatus, int options)
sleep(unsigned seconds)
usleep(unsigned usec)
nanosleep(const struct timespec *req, struct timespec *rem)
poll(struct pollfd *fds, unsigned long nfds, int timeout)
epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
socket(int domain, int type, int protocol)
bind(int sockfd, const struct sockaddr *addr, unsigned addrlen)
listen(int sockfd, int backlog)
accept(int sockfd, struct sockaddr *addr, unsigned *addrlen)
accept4(int sockfd, struct sockaddr *addr, unsigned *addrlen, int flags)
connect(int sockfd, const struct sockaddr *addr, unsigned addrlen)
send(int sockfd, const void *buf, size_t len, int flags)
sendto(int sockfd, const void *buf, size_t len, int flags, const struct sockaddr *dest_addr, unsigned addrlen)
sendmsg(int sockfd, const struct msghdr *msg, int flags)
recv(int sockfd, void *buf, size_t len, int flags)
recvfrom(int sockfd, void *buf, size_t len, int flags, struct sockaddr *src_addr, unsigned *addrlen)
recvmsg(int sockfd, struct msghdr *msg, int flags)
shutdown(int sockfd, int how)
setsockopt(int sockfd, int level, int optname, const void *optval, unsigned optlen)
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
gethostbyname(const char *name)
pthread_create(unsigned long *thread, const void *attr, void *start_routine, void *arg)
pthread_join(unsigned long thread, void **retval)
pthread_mutex_lock(void *mutex)
pthread_mutex_trylock(void *mutex)
pthread_mutex_unlock(void *mutex)
pthread_cond_wait(void *cond, void *mutex)
pthread_cond_signal(void *cond)
pthread_cond_broadcast(void *cond)
pthread_rwlock_rdlock(void *rwlock)
pthread_rwlock_wrlock(void *rwlock)
pthread_rwlock_unlock(void *rwlock)
pthread_setname_np(unsigned long thread, const char *name)
dlopen(const char *filename, int flags)
dlsym(void *handle, const char *symbol)
qsort(void *base, size_t nmemb, size_t size, void *compar)
sigaction(int signum, const void *act, void *oldact)
time(long *tloc)
gettimeofday(void *tv, void *tz)
clock_gettime(int clockid, struct timespec *tp)
";

/// The parameters of a libc function.
pub fn parameters(function: &str) -> Option<Vec<Parameter>> {
    let line = PROTOTYPES.lines().find_map(|line| {
        let rest = line.strip_prefix(function)?;
        rest.strip_prefix('(')?.strip_suffix(')')
    })?;
    let parameters = line.split(", ").enumerate();
    parameters
        .map(|(index, text)| parameter(text, u8::try_from(index).ok()?))
        .collect()
}

/// `const char *name`, as the integer argument of that number.
fn parameter(text: &str, index: u8) -> Option<Parameter> {
    let at = text.rfind([' ', '*'])? + 1;
    let (ty, name) = text.split_at(at);
    let stars = ty.matches('*').count();
    let base = ty.trim_end_matches(['*', ' ']);
    let base = base.strip_prefix("const ").unwrap_or(base);
    let int = |width, signed| Type::Int { width, signed };
    let mut ty = match base {
        "void" => Type::Void,
        "char" => int(Width::W8, true),
        "int" => int(Width::W32, true),
        "unsigned" => int(Width::W32, false),
        "long" => int(Width::W64, true),
        "size_t" | "unsigned long" => int(Width::W64, false),
        _ => Type::Struct(base.strip_prefix("struct ")?.to_owned()),
    };
    for _ in 0..stars {
        ty = Type::Pointer(Box::new(ty));
    }
    Some(Parameter {
        name: name.to_owned(),
        ty,
        argument: Some(index),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prototype_is_read() {
        for line in PROTOTYPES.lines() {
            let name = line.split('(').next().expect("a name");
            let parameters = parameters(name).unwrap_or_else(|| panic!("{line}"));
            assert!(!parameters.is_empty() && parameters.len() <= 6, "{line}");
            let mut names: Vec<_> = parameters.iter().map(|p| &p.name).collect();
            names.dedup();
            assert_eq!(names.len(), parameters.len(), "{line}");
            assert!(parameters.iter().all(|p| p.ty != Type::Void), "{line}");
        }
        let lines = PROTOTYPES.lines().count();
        let mut names: Vec<_> = PROTOTYPES.lines().map(|l| l.split('(').next()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), lines);
    }

    #[test]
    fn types_are_those_of_c() {
        let open = parameters("openat").expect("known");
        let pointer = Type::Pointer(Box::new(Type::Int {
            width: Width::W8,
            signed: true,
        }));
        assert_eq!(open[1].name, "pathname");
        assert_eq!(open[1].ty, pointer);
        assert_eq!(open[1].argument, Some(1));
        assert_eq!(parameters("frobnicate"), None);
        assert_eq!(parameters("mallo"), None);
    }
}

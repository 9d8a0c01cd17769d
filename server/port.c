/* Looks in /proc for the holder of a port, asks the kernel for a free one, and
 * knocks at Unix sockets. */
#include "server/port.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The inode of the socket that listens on this port, or 0. */
static unsigned long listener_inode(const char *table, unsigned port)
{
	char line[512];
	unsigned long inode = 0;
	FILE *file = fopen(table, "re");
	if (file == NULL)
		return 0;
	while (inode == 0 && fgets(line, sizeof(line), file) != NULL) {
		unsigned local, state;
		unsigned long found;
		if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &local, &state,
		           &found) == 3 &&
		    local == port && state == 0x0a)
			inode = found;
	}
	fclose(file);
	return inode;
}

static bool process_has(const char *pid, unsigned long inode)
{
	char path[300], link[64], wanted[64];
	bool has = false;

	snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	DIR *dir = opendir(path);
	for (struct dirent *entry; dir != NULL && !has && (entry = readdir(dir)) != NULL;) {
		ssize_t size = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
		if (size <= 0)
			continue;
		link[size] = '\0';
		has = strcmp(link, wanted) == 0;
	}
	if (dir != NULL)
		closedir(dir);
	return has;
}

static void process_name(const char *pid, char *name, size_t bytes)
{
	char path[300];

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	snprintf(name, bytes, "a process");
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return;
	if (fgets(name, (int)bytes, file) != NULL)
		name[strcspn(name, "\n")] = '\0';
	fclose(file);
}

static bool find_holder(unsigned port, char *text, size_t bytes)
{
	unsigned long inode = listener_inode("/proc/net/tcp", port);
	if (inode == 0)
		inode = listener_inode("/proc/net/tcp6", port);
	DIR *proc = inode != 0 ? opendir("/proc") : NULL;
	bool found = false;

	for (struct dirent *entry; proc != NULL && !found && (entry = readdir(proc)) != NULL;) {
		char name[64];
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !process_has(entry->d_name, inode))
			continue;
		process_name(entry->d_name, name, sizeof(name));
		snprintf(text, bytes, "%s (pid %.20s) holds it", name, entry->d_name);
		found = true;
	}
	if (proc != NULL)
		closedir(proc);
	return found;
}

static unsigned free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	unsigned port = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, bytes) == 0 &&
	    getsockname(fd, (struct sockaddr *)&address, &bytes) == 0)
		port = ntohs(address.sin_port);
	if (fd >= 0)
		close(fd);
	return port;
}

bool port_ipc_taken(const char *endpoint, char *text, size_t text_bytes)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred holder = {0};
	socklen_t bytes = sizeof(holder);
	char pid[24], name[64];

	if (strncmp(endpoint, "ipc://", 6) != 0 || strlen(endpoint + 6) >= sizeof(address.sun_path))
		return false;
	memcpy(address.sun_path, endpoint + 6, strlen(endpoint + 6));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* A full queue (EAGAIN) has an owner too; only a path left behind refuses. */
	bool taken = fd >= 0 && (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
	                         errno == EAGAIN);
	if (taken && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &holder, &bytes) == 0 && holder.pid > 0) {
		snprintf(pid, sizeof(pid), "%d", (int)holder.pid);
		process_name(pid, name, sizeof(name));
		snprintf(text, text_bytes, "cannot listen on %s: %s (pid %s) listens there; name another path",
		         endpoint, name, pid);
	} else if (taken) {
		snprintf(text, text_bytes, "cannot listen on %s: another process does; name another path", endpoint);
	}
	if (fd >= 0)
		close(fd);
	return taken;
}

void port_explain(const char *endpoint, const char *why, char *text, size_t text_bytes)
{
	char holder[128] = "who holds it is not visible to this user";
	const char *colon = strrchr(endpoint, ':');
	unsigned port = colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;

	snprintf(text, text_bytes, "%s", why);
	if (strncmp(endpoint, "tcp://", 6) != 0 || port == 0 || strstr(why, "in use") == NULL)
		return;
	find_holder(port, holder, sizeof(holder));
	snprintf(text, text_bytes, "%s: %s; free is, for example, %.*s:%u", why, holder,
	         (int)(colon - endpoint), endpoint, free_port());
}

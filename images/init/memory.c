/*
 * kiOS of generation B: no disk is mounted. All lives on the root, which has what was handed over at boot, and goes with it.
 */
#include "init.h"
#include <stddef.h>

const char *const forwarding[] = {"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding", NULL};
char *const kubelet_options[] = {NULL};

void mount_state(void)
{
}

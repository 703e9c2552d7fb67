/* The last words in a log, for tests. */
#include "agent.h"

#include <stdio.h>

int main(int count, char **arguments)
{
	char words[512];

	(void)count;
	last_words(arguments[1], words, sizeof(words));
	fputs(words, stdout);
}

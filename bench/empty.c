/*
 * The least that a program can cost: started, dynamically linked with libc, ended. What others are compared with.
 */
int main(void)
{
    return 0;
}
